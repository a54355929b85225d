"""Which fine-tuning gives a small model an assistant's manner, and what does it forget on the way?

LoRA on conversations, its loss on the assistant's turns. The default corpus is generated, and its manner can be checked
by rules; your own: --data FILE, FOLDER or hub:OWNER/NAME, ranked by how likely the adapter finds held-out replies. What
forgets least: `--objectives score,out_of_domain`. See docs/results/style.md, and `espalier judge` for which of two
checkpoints replies better.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.cli.main import main
from search_spaces import sft
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.learners.lm.sft import SftConfig
from trainables.tasks.style.task import StyleTask

SWEEP = Sweep(
    name="style",
    pairs=(Pair(SftConfig(), StyleTask(), "builtin:tiny"),),
    space=sft.SPACE,
    num_samples=16,
    rounds=8,  # four epochs
)

if __name__ == "__main__":
    main(SWEEP)
