"""What does freezing the base cost? LoRA, DoRA, IA3 and full fine-tuning on the reasoning arena.

All but LoRA need a model of their own, so every trial runs by itself (the sweep says so). On the built-in base unless
--base names another. About five minutes on two cores.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.engine.cli import main
from search_spaces import dora, full, ia3, lora
from sweeps.engine.sweep import Sweep
from trainables.core import Pair
from trainables.learners.dora import DoraConfig
from trainables.learners.full import FullConfig
from trainables.learners.ia3 import Ia3Config
from trainables.learners.lora import LoraConfig
from trainables.tasks.arena import ArenaTask

TASK, BASE = ArenaTask(), "builtin:tiny"

SWEEP = Sweep(
    name="adapters",
    pairs=(
        Pair(LoraConfig(), TASK, BASE),
        Pair(DoraConfig(), TASK, BASE),
        Pair(Ia3Config(), TASK, BASE),
        Pair(FullConfig(), TASK, BASE),
    ),
    space={"lora": lora.SPACE, "dora": dora.SPACE, "ia3": ia3.SPACE, "full": full.SPACE},
    num_samples=16,
    rounds=8,
)

if __name__ == "__main__":
    main(SWEEP)
