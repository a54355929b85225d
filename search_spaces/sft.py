"""What may vary for fine-tuning on conversations: LoRA's axes, with warm-up as a share of the run, and noise."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import lora
from search_spaces.space import Space

SPACE = lora.SPACE.without("warmup_steps") | Space(
    {
        # A round is a share of an epoch whatever the batch size, so steps differ between trials, and shares do not.
        "warmup_ratio": FloatDistribution(0.0, 0.1),
        # NEFTune (Jain et al. 2023) tries 5, 10 and 15; it lengthens answers, so that none at all must be on offer.
        "neftune_noise_alpha": CategoricalDistribution((0.0, 5.0, 15.0)),
    }
)
