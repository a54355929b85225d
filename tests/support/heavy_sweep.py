"""The toy sweep with two rungs, and with checkpoints that take a megabyte each."""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from optuna.distributions import CategoricalDistribution, FloatDistribution

from sweeps.cli.main import main
from search_spaces.space import Space
from tests.support.toy_sweep import SWEEP as TOY

SPACE = Space(
    {"quality": FloatDistribution(0.0, 1.0), "bytes": CategoricalDistribution((900_000, 1_000_000))},
)
SWEEP = dataclasses.replace(TOY, name="heavy", space=SPACE, num_samples=24, rounds=9, grace_period=1)

if __name__ == "__main__":
    main(SWEEP)
