"""Which learner adapts a small language model best to the reasoning arena: LoRA, a soft prompt, or both?

Searches learning rates, ranks, prompt lengths and regularisation on the arena's search split (five kinds of question;
see docs/results/arena.md), on the built-in base unless --base names another. 5 to 15 minutes on two cores.
`--learner` takes DoRA, IA3 and full fine-tuning too (dora, ia3, full): those cannot share a base, so every trial then
runs by itself.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.cli.main import main
from search_spaces import dora, full, hybrid, ia3, lora, soft_prompt
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.tasks.arena.task import ArenaTask

TASK, BASE = ArenaTask(), "builtin:tiny"

SWEEP = Sweep(
    name="arena",
    pairs=(
        Pair(LoraConfig(), TASK, BASE),
        Pair(SoftPromptConfig(), TASK, BASE),
        Pair(HybridConfig(), TASK, BASE),
    ),
    optional=(Pair(DoraConfig(), TASK, BASE), Pair(Ia3Config(), TASK, BASE), Pair(FullConfig(), TASK, BASE)),
    space={
        "lora": lora.SPACE,
        "soft_prompt": soft_prompt.SPACE,
        "hybrid": hybrid.SPACE,
        "dora": dora.SPACE,
        "ia3": ia3.SPACE,
        "full": full.SPACE,
    },
    num_samples=24,
    rounds=8,
)

if __name__ == "__main__":
    main(SWEEP)
