"""Search space of joint: percell's, and how its trunk is trained.

One network per task: the trunk is the same for all, so networks from several seeds would start alike.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces import percell
from search_spaces.space import Space

SPACE = percell.SPACE.without("seeds") | Space(
    {
        # 0: each task is alone, as in percell. 2,000 steps take a minute on one core.
        "trunk_steps": CategoricalDistribution((0, 500, 1000, 2000)),
        # The highest rate of a cycle. Above 1e-2 eight recurrent steps diverge, as in percell.
        "trunk_learning_rate": FloatDistribution(1e-3, 1e-2, log=True),
        # A vector for each task says which rule it follows; without, the trunk learns what all tasks have in common.
        "task_vector": CategoricalDistribution((False, True)),
    },
    {name: {"trunk_steps": (500, 1000, 2000)} for name in ("trunk_learning_rate", "task_vector")},
)
