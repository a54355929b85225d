"""Which learner and which settings teach a small language model questions of reasoning-gym best?

`--task rg:NAME+NAME` names generators, whose own verifiers score the answers; six short ones by default. Difficulty:
`--task.params gcd.max_value=100`. LoRA, a soft prompt and both on SmolLM2-135M, unless --base names another;
`--learner` takes DoRA, IA3 and full fine-tuning too (dora, ia3, full). `make reasoning-gym smollm2` installs what it
needs. See docs/how-to/reasoning-gym.md.
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
from trainables.tasks.reasoning.task import ReasoningTask

TASK, BASE = ReasoningTask(), "builtin:smollm2"

SWEEP = Sweep(
    name="reasoning",
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
    num_samples=6,
    rounds=2,
    grace_period=1,
    finalists=1,
)

if __name__ == "__main__":
    main(SWEEP)
