"""Search space of grpo (Shao et al. 2024): the step size, the adapter, and what is sampled and clipped."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import optimizer
from search_spaces.space import Space

SPACE = optimizer.SPACE.without("per_device_train_batch_size", "weight_decay") | Space(
    {
        # Too low learns nothing in a few dozen steps; too high and one generation's luck ends all exploration.
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        # A reward carries a few bits, so small ranks suffice (Schulman et al. 2025, "LoRA without regret").
        "r": CategoricalDistribution((1, 2, 4, 8)),
        # The update is scaled by lora_alpha / r: from 1/2 to 32.
        "lora_alpha": CategoricalDistribution((4, 8, 16, 32)),
        # Few large groups tell apart completions of hard questions, many small ones see more questions. All divide 64.
        "num_generations": CategoricalDistribution((4, 8, 16)),
        # Below 0.7 the completions of a group are mostly equal; above 1.2 many are no answers.
        "temperature": FloatDistribution(0.7, 1.2),
        # 0.04 in the paper; later work often has none. It pulls back to the base, which knows the format less well.
        "beta": CategoricalDistribution((0.0, 0.01, 0.04)),
        # A second pass uses the completions again, which cost most of the time, but they are no longer the policy's.
        "num_iterations": CategoricalDistribution((1, 2)),
        # DAPO (Yu et al. 2025) has 0.28: more than epsilon, so that unlikely tokens may rise and entropy stays.
        "epsilon_high": FloatDistribution(0.2, 0.4),
    }
).given("epsilon_high", num_iterations=2)  # in a single pass no ratio leaves 1
