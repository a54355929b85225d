"""How far does a small model get on yes/no questions of several steps, phase by phase?

StrategyQA in three sweeps, each on the base that the best of the one before has become: supervised on the answers
(sft), on rationales and answers (cot), on preferences (dpo). `--phase joint` searches all three as one trial. The
default questions are generated and ask the built-in base what its prompt says; real ones: --task.data FILE, or
hub:OWNER/NAME. See docs/strategyqa.md. About forty minutes on two cores.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.engine.cli import main
from search_spaces import cot, dpo, full, lora, phases
from sweeps.engine.chain import Chain
from sweeps.engine.sweep import Sweep
from trainables.core import Pair
from trainables.learners.cot import CotConfig
from trainables.learners.dpo import DpoConfig
from trainables.learners.full import FullConfig
from trainables.learners.lora import LoraConfig
from trainables.learners.phases import PhasesConfig
from trainables.tasks.strategyqa import StrategyQaTask

TASK, BASE = StrategyQaTask(), "builtin:tiny"
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # as in QLoRA

SWEEP = Chain(
    name="strategyqa",
    phases={
        "sft": Sweep(
            name="sft",
            pairs=(Pair(LoraConfig(target_modules=ALL), TASK, BASE),),
            optional=(Pair(FullConfig(), TASK, BASE),),
            space={"lora": lora.SPACE, "full": full.SPACE},
            num_samples=8,
            rounds=8,
        ),
        "cot": Sweep(
            name="cot",
            pairs=(Pair(CotConfig(target_modules=ALL), TASK, BASE),),
            space=cot.SPACE,
            num_samples=8,
            rounds=8,
        ),
        "dpo": Sweep(
            name="dpo",
            pairs=(Pair(DpoConfig(target_modules=ALL), TASK, BASE),),
            space=dpo.SPACE,
            num_samples=8,
            rounds=4,
        ),
    },
    apart={
        "joint": Sweep(
            name="joint",
            pairs=(Pair(PhasesConfig(target_modules=ALL), TASK, BASE),),
            space=phases.SPACE,
            num_samples=8,
            rounds=20,
        )
    },
)

if __name__ == "__main__":
    main(SWEEP)
