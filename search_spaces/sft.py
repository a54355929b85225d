"""Search space of sft: LoRA's axes, with warm-up as a share of the run, and noise on embeddings."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import lora
from search_spaces.space import Space

SPACE = lora.SPACE.without("warmup_steps") | Space(
    {
        # A share, because a round's steps depend on the batch size and differ between trials.
        "warmup_ratio": FloatDistribution(0.0, 0.1),
        # NEFTune (Jain et al. 2023) tries 5, 10 and 15; it lengthens answers, so 0 is a choice, too.
        "neftune_noise_alpha": CategoricalDistribution((0.0, 5.0, 15.0)),
    }
)
