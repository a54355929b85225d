"""The code in a model card, which readers paste: texts of a base and a folder are literals there, and never code."""

from __future__ import annotations

import ast
import json
import shutil

from sweeps.commands.model_card import _use
from sweeps.results.run_folder import Run
from sweeps.spec.open_run import Job
from tests.support.report_kit import confirmed
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import BUILTIN
from trainables.tasks.arena.task import ArenaTask

EVIL = '"); __import__("os").system("id"); ("'


def test_a_base_and_a_folder_cannot_put_code_into_a_card(tmp_path):
    """A hostile base's end token closes the quotes around it, and so do the names of its folder and of the export."""
    base, export = tmp_path / f"base{EVIL}", tmp_path / f"taken{EVIL}"
    shutil.copytree(BUILTIN["tiny"], base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        text = (base / name).read_text()
        own = EVIL if name.endswith("jinja") else json.dumps(EVIL)[1:-1]
        quoted = text.replace("'<|im_end|>'", repr(EVIL)) if name.endswith("jinja") else text
        (base / name).write_text(quoted.replace("<|im_end|>", own))
    (export / "lora").mkdir(parents=True)
    run = Run.read(confirmed(tmp_path / "run"))
    run.facts["sweep"]["resources_per_trial"] = {}
    pair = Pair(LoraConfig(), ArenaTask(test_size=30), str(base))
    lines = _use(run, Job(run.records[0], 0, 1, "test", 0.5, ()), pair, export, merged=False)
    code = ast.parse("\n".join(lines[1:-1]))
    texts = [node.value for node in ast.walk(code) if isinstance(node, ast.Constant)]
    assert EVIL in texts
    assert any(str(text).startswith(export.name) for text in texts)
    assert "__import__" not in {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}
