"""Search space of phases: LoRA's axes, a learning rate for each phase, and DPO's own axes.

The schedule stays constant, because phases begin and end inside it.
"""

from optuna.distributions import IntDistribution

from search_spaces import cot, dpo
from search_spaces.space import Space

SPACE = (
    cot.SPACE.without("lr_scheduler_type")
    | dpo.PREFERENCES
    | Space(
        {
            # Each phase has the range of its own learner.
            "cot_learning_rate": cot.SPACE.axes["learning_rate"],
            "dpo_learning_rate": dpo.SPACE.axes["learning_rate"],
            # Rounds of answers before rationales; 0 begins with rationales.
            "sft_rounds": IntDistribution(0, 4),
        }
    )
)
