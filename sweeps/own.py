"""Which learner and which settings are best for your own questions and answers, on your model?

`--data FILE`: CSV, TSV, JSONL, JSON or Parquet, a folder of such files, or hub:OWNER/NAME. Columns are found by their
names, or given: `--task.prompt`, `--task.answer`, `--task.choices`. How answers are compared: `--task.score`. LoRA, a
soft prompt and both on SmolLM2-135M (`make smollm2`), unless --base names another; `--learner` takes DoRA, IA3, full
fine-tuning and GRPO too (dora, ia3, full, grpo). See docs/how-to/own-data.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.cli.main import main
from sweeps.spec.sweep import Sweep
from sweeps.spec.text_learners import text_learners
from trainables.tasks.own.task import OwnTask

SWEEP = Sweep(
    name="own",
    **text_learners(OwnTask(), "builtin:smollm2"),
    num_samples=9,
    rounds=4,
)

if __name__ == "__main__":
    main(SWEEP)
