"""What may vary for IA3 (Liu et al. 2022): it has no capacity to choose, only how fast its vectors move."""

from optuna.distributions import FloatDistribution

from search_spaces import optimizer
from search_spaces.space import Space

# No weight decay: vectors begin at 1, and it draws them to 0, where what they scale is silent.
SPACE = optimizer.SPACE.without("weight_decay") | Space(
    # The paper's 3e-3 is for 1,000 steps; runs of a few hundred need up to a hundred times that.
    {"learning_rate": FloatDistribution(1e-3, 3e-1, log=True)}
)
