"""What may vary where all three phases are one trial: an adapter, a rate for each phase, and DPO's own axes.

The schedule stays constant, as phases begin and end inside it.
"""

from optuna.distributions import IntDistribution

from search_spaces import cot, dpo
from search_spaces.space import Space

SPACE = (
    cot.SPACE.without("lr_scheduler_type")
    | dpo.PREFERENCES
    | Space(
        {
            "cot_learning_rate": cot.SPACE.axes["learning_rate"],
            "dpo_learning_rate": dpo.SPACE.axes["learning_rate"],
            # Rounds before reasoning is learned: answers first, or reasoning from the start.
            "sft_rounds": IntDistribution(0, 4),
        }
    )
)
