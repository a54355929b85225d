"""How far does a small model get on yes/no questions of several steps, phase by phase?

StrategyQA in three sweeps, each on the base into which the previous winner was merged: supervised on answers (sft), on
rationales and answers (cot), on preferences (dpo). `--phase joint` searches all three as one trial. Questions are
generated; real ones: --data FILE, or hub:OWNER/NAME. See docs/results/strategyqa.md. About forty minutes on two cores.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.cli.main import main
from search_spaces import cot, dpo, full, lora, phases, qlora
from sweeps.spec.chain import Chain
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.learners.lm.cot import CotConfig, CotFromBaseConfig
from trainables.learners.lm.dpo import DpoConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.phases import PhasesConfig
from trainables.learners.lm.qlora import QloraConfig
from trainables.tasks.strategyqa.task import StrategyQaTask

TASK, BASE = StrategyQaTask(), "builtin:tiny"
# As in QLoRA, and the output layer: to the built-in base "Yes" and "No" are letters that it has never said.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
BATCH: Any = {"per_device_train_batch_size": 16, "rows_per_round": 640}
LORA: Any = BATCH | {"target_modules": TARGETS}
SPACES = {"lora": lora.SPACE, "full": full.SPACE, "qlora": qlora.SPACE}
SIZE: Any = {"num_samples": 8, "rounds": 8, "finalists": 1}

SWEEP = Chain(
    name="strategyqa",
    from_base=("cot_anew",),
    phases={
        "sft": Sweep(
            name="sft",
            pairs=(Pair(LoraConfig(**LORA), TASK, BASE),),
            optional=(Pair(FullConfig(**BATCH), TASK, BASE), Pair(QloraConfig(**LORA), TASK, f"{BASE}:nf4")),
            space={name: space.without("per_device_train_batch_size") for name, space in SPACES.items()},
            **SIZE,
        ),
        "cot": Sweep(
            name="cot",
            pairs=(Pair(CotConfig(**LORA), TASK, BASE), Pair(CotFromBaseConfig(**LORA), TASK, BASE)),
            space={"cot": cot.SPACE, "cot_anew": cot.SPACE},
            **SIZE,
        ),
        "dpo": Sweep(name="dpo", pairs=(Pair(DpoConfig(**LORA), TASK, BASE),), space=dpo.SPACE, **SIZE),
    },
    optional={"joint": Sweep("joint", pairs=(Pair(PhasesConfig(**LORA), TASK, BASE),), space=phases.SPACE, **SIZE)},
)

if __name__ == "__main__":
    main(SWEEP)
