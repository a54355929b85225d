"""What a base cannot read is told with its file and row, before anything starts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from sweeps.spec.fit_to_bases import check_conversations
from sweeps.spec.validation import BadInput
from sweeps.style import SWEEP
from trainables.models.loading import BUILTIN
from trainables.tasks.style.task import StyleTask

REFUSES = (
    "{% for m in messages %}{% if m.content == 'Go away.' %}{{ raise_exception('Be\\npolite') }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
)


def talk(number, reply="Yes."):
    return {
        "messages": [{"role": "user", "content": f"is it {number}?"}, {"role": "assistant", "content": reply}] * 2,
    }


def test_a_conversation_that_a_chat_template_refuses_is_named_with_its_row(tmp_path):
    base = shutil.copytree(BUILTIN["tiny"], tmp_path / "base")
    (base / "chat_template.jinja").write_text(REFUSES)
    data = tmp_path / "talks.jsonl"

    def check(rows):
        data.write_text("\n".join(map(json.dumps, rows)))
        task = StyleTask(data=str(data), train_size=0)
        check_conversations(replace(SWEEP, pairs=(replace(SWEEP.pairs[0], task=task, base=str(base)),)))

    check([talk(n) for n in range(60)])
    data = tmp_path / "rude.jsonl"
    with pytest.raises(BadInput) as told:
        check([talk(n, "Go away." if n in (16, 40) else "Yes.") for n in range(60)])
    said = str(told.value)
    assert said.startswith(f"{data}, line ")
    assert said.partition(", line ")[2].partition(":")[0] in ("17", "41")
    assert said.endswith(f"{base}: the base's chat template refuses a conversation: Be; leave such out (and 1 more)")
