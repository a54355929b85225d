"""Search space of IA3 (Liu et al. 2022): the learning rate; IA3 has no capacity to choose."""

from optuna.distributions import FloatDistribution

from search_spaces import optimizer
from search_spaces.space import Space

# No weight decay: vectors begin at 1, and it would pull them to 0, which removes what they scale.
SPACE = optimizer.SPACE.without("weight_decay") | Space(
    # The paper's 3e-3 is for 1,000 steps; runs of a few hundred need up to a hundred times that.
    {"learning_rate": FloatDistribution(1e-3, 3e-1, log=True)}
)
