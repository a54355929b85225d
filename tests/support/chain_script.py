"""A script of a chain in miniature: two phases of LoRA on the built-in base, and one that stands apart."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from optuna.distributions import FloatDistribution

from sweeps.cli.main import main
from search_spaces.space import Space
from sweeps.spec.chain import Chain
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.learners.lm.cot import CotConfig
from trainables.learners.lm.dpo import DpoConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.tasks.strategyqa.task import StrategyQaTask

TASK = StrategyQaTask(train_size=32, search_size=30, test_size=30, max_new_tokens=24)
ANSWERS = LoraConfig(r=8, steps_per_round=40, target_modules=("q_proj", "v_proj", "down_proj", "lm_head"))
PAIRS = DpoConfig(r=2, steps_per_round=10, max_new_tokens=24, max_pairs=8)
RATE = Space({"learning_rate": FloatDistribution(1e-3, 1e-2, log=True)})


def phase(name, learner):
    return Sweep(
        name=name,
        pairs=(Pair(learner, TASK, "builtin:tiny"),),
        space=RATE,
        num_samples=1,
        rounds=1,
        finalists=0,
        seats=1,
        max_concurrent_trials=1,
        resources_per_trial={"cpu": 1},
    )


SWEEP = Chain(
    name="mini",
    phases={"one": phase("one", ANSWERS), "two": phase("two", PAIRS)},
    optional={"alone": phase("alone", CotConfig(r=2, steps_per_round=4))},
)

if __name__ == "__main__":
    main(SWEEP)
