"""What may vary for lora_ttt (Akyurek et al. 2024): LoRA's axes for a few steps on one task; how answers are chosen.

Steps per round, rows per step and seats stay fixed: they are time, and rounds of one sweep are compared.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces import lora
from search_spaces.space import Space

SPACE = Space(
    {
        # As for lora: the source's 1e-4 is for 8 billion weights, a small base needs up to a hundred times that.
        "learning_rate": lora.SPACE.axes["learning_rate"],
        # Three demonstrations are few: decay up to the order used with test-time training, as for percell.
        "weight_decay": CategoricalDistribution((0.0, 0.01, 0.1, 1.0)),
        # Capacity and how strongly the adapter speaks; an adapter per ARC task makes a high rank dear in memory.
        "r": lora.SPACE.axes["r"],
        "lora_alpha": lora.SPACE.axes["lora_alpha"],
        # Right for most rules, wrong for those that know a colour by its name, and slower to learn for a small base.
        "permute_colours": CategoricalDistribution((False, True)),
        # More views find the answer more often and cost decoding in proportion; 8 show each turn once.
        "votes": CategoricalDistribution((4, 8, 16)),
        # Counting needs views that agree; probabilities also rank answers that one view alone gave, at a pass each.
        "selection": CategoricalDistribution(("vote", "logprob")),
        # Shared before any task: the format, and what rules are like. The source's gain grows with this stage.
        "supervised_steps": CategoricalDistribution((0, 50, 200)),
    }
)
