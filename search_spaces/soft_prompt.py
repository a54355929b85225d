"""What may vary for a soft prompt (Lester et al. 2021): its length, how it starts, and a much larger step size."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import optimizer
from search_spaces.space import Space

PROMPT = Space(
    {
        # Length: more capacity, but each token lengthens every sequence; gains are small beyond 20 in the paper.
        "num_virtual_tokens": CategoricalDistribution((4, 8, 16, 32)),
        # Random noise, or embeddings of sampled vocabulary, which the base already knows how to read.
        "prompt_init": CategoricalDistribution(("random", "vocab")),
    }
)

# A few embeddings must move far to be heard: the paper's rate is 0.3, where weights would diverge.
RATE = FloatDistribution(1e-3, 3e-1, log=True)

SPACE = optimizer.SPACE | PROMPT | Space({"learning_rate": RATE})
