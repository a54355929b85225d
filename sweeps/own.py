"""Which learner and which settings are best for your own questions and answers, on your model?

`--data FILE`: CSV, TSV, JSONL, JSON or Parquet, a folder of such files, or hub:OWNER/NAME. Columns are found by their
names, or given: `--task.prompt`, `--task.answer`, `--task.choices`. How answers are compared: `--task.score`. LoRA, a
soft prompt and both on SmolLM2-135M (`make smollm2`), unless --base names another; `--learner` takes DoRA, IA3 and full
fine-tuning too (dora, ia3, full). See docs/how-to/own-data.md.
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
from trainables.tasks.own.task import OwnTask

TASK, BASE = OwnTask(), "builtin:smollm2"

SWEEP = Sweep(
    name="own",
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
    num_samples=9,
    rounds=4,
)

if __name__ == "__main__":
    main(SWEEP)
