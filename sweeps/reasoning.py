"""Which learner and which settings teach a small language model questions of reasoning-gym best?

`--task rg:NAME+NAME` names generators, whose own verifiers score the answers; six short ones by default. Difficulty:
`--task.params gcd.max_value=100`. LoRA, a soft prompt and both on SmolLM2-135M, unless --base names another;
`--learner` takes DoRA, IA3, full fine-tuning and GRPO too (dora, ia3, full, grpo). `make reasoning-gym smollm2`
installs what it needs. See docs/how-to/reasoning-gym.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.cli.main import main
from sweeps.spec.sweep import Sweep
from sweeps.spec.text_learners import text_learners
from trainables.tasks.reasoning.task import ReasoningTask

SWEEP = Sweep(
    name="reasoning",
    **text_learners(ReasoningTask(), "builtin:smollm2"),
    num_samples=6,
    rounds=2,
    finalists=1,
)

if __name__ == "__main__":
    main(SWEEP)
