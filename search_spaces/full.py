"""Search space of full fine-tuning: above all the learning rate, a tenth of that of adapters."""

from optuna.distributions import FloatDistribution

from search_spaces import optimizer
from search_spaces.space import Space

# 1e-5 is usual for models of billions of weights; small bases, as the built-in one, take up to a hundred times more.
SPACE = optimizer.SPACE | Space({"learning_rate": FloatDistribution(1e-5, 3e-3, log=True)})
