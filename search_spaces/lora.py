"""Search space of LoRA (Hu et al. 2021): learning rate, rank, scale and dropout."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import optimizer
from search_spaces.space import Space

SPACE = optimizer.SPACE | Space(
    {
        # 1e-4 hardly changes a small base in 80 steps; adapters take ten times the rate of full fine-tuning.
        "learning_rate": FloatDistribution(1e-4, 2e-2, log=True),
        # Rank: capacity; 4 to 32 spans what task adaptation used in the paper, with few gains beyond.
        "r": CategoricalDistribution((4, 8, 16, 32)),
        # The update is scaled by lora_alpha / r: with these ranks the scale runs from 1/4 to 16.
        "lora_alpha": CategoricalDistribution((8, 16, 32, 64)),
        # Regularisation of the adapter's input; above 0.2 it slows short runs more than it helps.
        "lora_dropout": FloatDistribution(0.0, 0.2),
    }
)
