"""What is said about the data before training, where it depends on the base."""

from __future__ import annotations

import json
import shutil

import pytest

from sweeps.spec.data_summary import data_of
from trainables.core import Pair
from trainables.learners.lm.sft import SftConfig
from trainables.models.loading import BUILTIN
from trainables.tasks.style.task import StyleTask

REFUSES = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
)


@pytest.mark.parametrize(("refuses", "first"), [(True, "system"), (False, "system"), (True, "user")])
def test_system_turns_that_move_are_told_once(refuses, first, tmp_path):
    base = shutil.copytree(BUILTIN["tiny"], tmp_path / "base")
    if refuses:
        (base / "chat_template.jinja").write_text(REFUSES)
    turns = [{"role": "user", "content": "is it?"}, {"role": "assistant", "content": "Yes."}]
    begin = [{"role": "system", "content": "Be short."}] if first == "system" else []
    rows = [{"messages": [*begin, {**turns[0], "content": f"is it {i}?"}, turns[1]]} for i in range(60)]
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pair = Pair(SftConfig(), StyleTask(data=str(tmp_path / "talks.jsonl")), str(base))
    told = [
        line for line in data_of(pair) if "takes no system turn, which goes in front of the first user turn" in line
    ]
    assert len(told) == (refuses and first == "system")
