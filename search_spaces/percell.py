"""Search space of percell: learning rate, regularisation, depth, augmentation and the number of networks.

Steps per round stay fixed, because rounds of different trials are compared.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.space import Space

SPACE = Space(
    {
        # Below 1e-3 a few hundred steps do not fit the demonstrations; above 2e-2 eight recurrent steps diverge.
        "learning_rate": FloatDistribution(1e-3, 2e-2, log=True),
        # Three demonstrations are few, so strong decay may help.
        "weight_decay": CategoricalDistribution((0.0, 0.01, 0.1, 1.0)),
        # How far information travels, in cells; more costs time in proportion.
        "recurrent_steps": CategoricalDistribution((4, 6, 8, 10)),
        # Steps in the loss: with more, the network must reach its answer early and keep it.
        "supervised_steps": IntDistribution(1, 4),
        # Longer averages smooth more, but lag behind in a short run.
        "ema_decay": FloatDistribution(0.8, 0.98),
        # Right for most rules, wrong for those that depend on a certain colour.
        "permute_colours": CategoricalDistribution((False, True)),
        # Networks of a task that vote; a second one doubles the time.
        "seeds": CategoricalDistribution((1, 2)),
    }
)
