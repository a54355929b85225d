"""How far do rewards alone take a small model, and what do they add after answers have been shown?

Two sweeps in a row: LoRA on the arena's answers (sft), then GRPO on the base into which its winner was merged (grpo).
There GRPO is compared with more of the same: LoRA on answers, in rounds that take as long. `--phase grpo` alone learns
from the untouched base. Rewards are the task's scores; see docs/how-to/reinforcement-learning.md, also for other tasks,
whose scripts take `--learner grpo`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.cli.main import main
from search_spaces import grpo, lora
from sweeps.spec.chain import Chain
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.learners.lm.grpo import GrpoConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.tasks.arena.task import ArenaTask

TASK, BASE = ArenaTask(), "builtin:tiny"
MORE = Pair(LoraConfig(rows_per_round=360), TASK, BASE)  # a round takes the seconds of one of GRPO's on builtin:tiny

SWEEP = Chain(
    name="rl",
    phases={
        "sft": Sweep("sft", (Pair(LoraConfig(), TASK, BASE),), lora.SPACE, num_samples=8, rounds=8, finalists=1),
        "grpo": Sweep(
            name="grpo",
            pairs=(Pair(GrpoConfig(), TASK, BASE), MORE),
            space={"grpo": grpo.SPACE, "lora": lora.SPACE},
            num_samples=16,
            rounds=8,
            finalists=2,
        ),
    },
)

if __name__ == "__main__":
    main(SWEEP)
