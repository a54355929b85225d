"""A sweep script over the toy learner, whose checkpoints take a megabyte each."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from optuna.distributions import CategoricalDistribution, FloatDistribution

from sweeps.cli.main import main
from search_spaces.space import Space
from sweeps.spec.sweep import Sweep
from tests.support.toys import Digits, ToyConfig
from trainables.core import Pair

SWEEP = Sweep(
    name="heavy",
    pairs=(Pair(ToyConfig(), Digits()),),
    space=Space(
        {
            "quality": FloatDistribution(0.0, 1.0),
            "bytes": CategoricalDistribution((900_000, 1_000_000)),
        }
    ),
    num_samples=24,
    rounds=9,
    grace_period=1,
    finalists=0,
    search="random",
    max_concurrent_trials=2,
    resources_per_trial={"cpu": 0.5},
)

if __name__ == "__main__":
    main(SWEEP)
