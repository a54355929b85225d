"""Which learner adapts a small language model best to the reasoning arena: LoRA, a soft prompt, or both?

Searches learning rates, ranks, prompt lengths and regularisation on the arena's search split (five kinds of question;
see docs/results/arena.md), on the built-in base unless --base names another. 5 to 15 minutes on two cores.
`--learner` takes GRPO too (grpo), and DoRA, IA3 and full fine-tuning (dora, ia3, full): those three cannot share a
base, so every trial then runs by itself.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.cli.main import main
from sweeps.spec.sweep import Sweep
from sweeps.spec.text_learners import text_learners
from trainables.tasks.arena.task import ArenaTask

SWEEP = Sweep(
    name="arena",
    **text_learners(ArenaTask(), "builtin:tiny"),
    num_samples=24,
    rounds=8,
)

if __name__ == "__main__":
    main(SWEEP)
