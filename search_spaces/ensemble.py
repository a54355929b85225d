"""Search space of ensemble: percell's, and whether programs are judged by demonstrations that are left out."""

from optuna.distributions import CategoricalDistribution

from search_spaces import percell
from search_spaces.space import Space

SPACE = percell.SPACE | Space(
    {
        # Solves a few tasks more, which could be luck; searches for programs again without each demonstration.
        "held_out": CategoricalDistribution((False, True)),
    }
)
