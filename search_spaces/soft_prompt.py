"""Search space of a soft prompt (Lester et al. 2021): length, initialisation, and a much larger learning rate."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import optimizer
from search_spaces.space import Space

PROMPT = Space(
    {
        # More tokens add capacity and lengthen every sequence; in the paper, gains beyond 20 are small.
        "num_virtual_tokens": CategoricalDistribution((4, 8, 16, 32)),
        # Random noise, or embeddings of random tokens, which are in the base's usual range.
        "prompt_init": CategoricalDistribution(("random", "vocab")),
    }
)

# A few embeddings must change much to have an effect: the paper's rate is 0.3, with which weights would diverge.
RATE = FloatDistribution(1e-3, 3e-1, log=True)

SPACE = optimizer.SPACE | PROMPT | Space({"learning_rate": RATE})
