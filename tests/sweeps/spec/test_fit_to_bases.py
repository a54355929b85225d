"""What a base cannot read is told with its file and row, before anything starts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from search_spaces import full, lora, soft_prompt
from sweeps import arena
from sweeps.spec.fit_to_bases import check_conversations, fitted
from sweeps.style import SWEEP
from trainables.bad_input import BadInput
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import BUILTIN
from trainables.tasks.style.task import StyleTask

SPACES = {"lora": lora.SPACE, "full": full.SPACE, "soft_prompt": soft_prompt.SPACE}
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


def of_width(folder, width):
    """Return a base's folder without weights, whose configuration says that it is so wide."""
    base = shutil.copytree(BUILTIN["tiny"], folder / str(width), ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((base / "config.json").read_text())
    config |= {"hidden_size": width, "intermediate_size": 8, "num_attention_heads": 2}
    (base / "config.json").write_text(json.dumps(config | {"num_key_value_heads": 2, "head_dim": width // 2}))
    return str(base)


def test_default_rates_fall_with_the_width_of_a_base_and_chosen_ones_stay(tmp_path):
    """By hand: inversely from 576 on, so a half at 1152; the default is what a sweep tries first."""

    def rates(base, *learners):
        pairs = tuple(replace(arena.SWEEP.pairs[0], learner=one, base=base) for one in learners)
        fit = fitted(replace(arena.SWEEP, pairs=pairs, space={one.name: SPACES[one.name] for one in learners}))
        firsts = [one.fields["learning_rate"] for one in fit.defaults()]
        assert firsts == [pair.learner.learning_rate for pair in fit.pairs]
        return firsts

    learners = (LoraConfig(), FullConfig(), SoftPromptConfig())
    assert rates("builtin:tiny", *learners) == [3e-3, 5e-4, 3e-2]
    assert rates(of_width(tmp_path, 1152), *learners) == [1.5e-3, 2.5e-4, 3e-2]  # prompts are inputs, not weights
    assert rates(of_width(tmp_path, 2304), LoraConfig(learning_rate=2e-3)) == [2e-3]
    assert rates(of_width(tmp_path, 288), LoraConfig()) == [3e-3]
