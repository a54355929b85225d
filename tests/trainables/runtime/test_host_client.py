"""A process that only holds a seat in a host stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_a_process_that_only_holds_a_seat_imports_no_torch():
    learners = ("hybrid", "sft", "phases")
    tasks = ("arena", "style", "strategyqa")
    modules = ["sweeps.spec.sweep", "trainables.runtime.trial", "trainables.runtime.host_client"]
    modules += [f"trainables.learners.lm.{name}" for name in learners]
    modules += [f"trainables.tasks.{name}.task" for name in tasks]
    code = f"import sys, {', '.join(modules)}; print({{'torch', 'transformers', 'peft'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
