"""Search space of lora_ttt (Akyurek et al. 2024): LoRA's axes, and how answers are chosen.

Steps per round, rows per step and seats stay fixed, because rounds of different trials are compared.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces import lora
from search_spaces.space import Space

SPACE = Space(
    {
        # As for lora: the source's 1e-4 is for 8 billion weights, a small base needs up to a hundred times that.
        "learning_rate": lora.SPACE.axes["learning_rate"],
        # As for percell: with only three demonstrations, strong decay may help.
        "weight_decay": CategoricalDistribution((0.0, 0.01, 0.1, 1.0)),
        # Capacity; with an adapter per ARC task, a high rank takes much memory.
        "r": lora.SPACE.axes["r"],
        # Scale of the update, as for lora.
        "lora_alpha": lora.SPACE.axes["lora_alpha"],
        # Right for most rules, wrong for those that depend on a certain colour, and slower to learn for a small base.
        "permute_colours": CategoricalDistribution((False, True)),
        # More views find the answer more often and cost decoding in proportion; 8 show each turn once.
        "votes": CategoricalDistribution((4, 8, 16)),
        # Voting needs views that agree; log-probabilities also rank answers of a single view, at one more pass each.
        "selection": CategoricalDistribution(("vote", "logprob")),
        # A shared stage teaches the format and typical rules; the paper's gain grows with this stage.
        "supervised_steps": CategoricalDistribution((0, 50, 200)),
    }
)
