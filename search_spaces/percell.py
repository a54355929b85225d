"""What may vary for percell: the step size first, then how much it regularises, what it takes as symmetric, and votes.

Steps per round stay fixed: they are time, and rounds of one sweep are compared.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.space import Space

SPACE = Space(
    {
        # Below 1e-3 a few hundred steps do not fit the demonstrations; above 2e-2 eight recurrent steps diverge.
        "learning_rate": FloatDistribution(1e-3, 2e-2, log=True),
        # None, or up to the order used with test-time training: three demonstrations are few.
        "weight_decay": CategoricalDistribution((0.0, 0.01, 0.1, 1.0)),
        # How far information travels, in cells; more costs time in proportion.
        "recurrent_steps": CategoricalDistribution((4, 6, 8, 10)),
        # The last steps of how many enter the loss: with more, the answer must stand early and stay.
        "supervised_steps": IntDistribution(1, 4),
        # Longer averages smooth more, but lag behind in a short run.
        "ema_decay": FloatDistribution(0.8, 0.98),
        # Right for most rules, wrong for those that know a colour by its name.
        "permute_colours": CategoricalDistribution((False, True)),
        # Networks of a task that vote; a second one costs as much time again.
        "seeds": CategoricalDistribution((1, 2)),
    }
)
