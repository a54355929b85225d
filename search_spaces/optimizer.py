"""Axes of the optimizer, shared by the learners' spaces; names as in `transformers`."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.space import Space

SPACE = Space(
    {
        # Decoupled from the learning rate in AdamW; above 0.1 it outweighs the gradient in runs this short.
        "weight_decay": FloatDistribution(0.0, 0.1),
        # Constant suits a run that ASHA may stop at any round; cosine and linear help in long runs.
        "lr_scheduler_type": CategoricalDistribution(("constant", "linear", "cosine")),
        # AdamW's moments are noisy in the first steps; more than 20 steps would use up the first round.
        "warmup_steps": CategoricalDistribution((0, 5, 20)),
        # Rows per optimizer step: smaller batches take more steps for the same examples, larger ones average noise.
        "per_device_train_batch_size": CategoricalDistribution((4, 8, 16)),
    }
)
