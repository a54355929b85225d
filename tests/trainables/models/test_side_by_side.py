"""What `espalier chat` says is what the host said of the same adapter and of the base without it."""

from __future__ import annotations

import json

import pytest

from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.adapter_config import CONFIG_FILE
from trainables.models.loading import load
from trainables.models.side_by_side import SideBySide
from trainables.packed.solo import Solo
from trainables.tasks.arena.task import ArenaTask

TASK = ArenaTask(train_size=16, search_size=5, test_size=5)
LEARNERS = {
    "lora": LoraConfig(learning_rate=3e-2, steps_per_round=4),
    "soft_prompt": SoftPromptConfig(learning_rate=0.3, steps_per_round=4),
    "hybrid": HybridConfig(learning_rate=3e-2, prompt_learning_rate=0.3, steps_per_round=4),
    "ia3": Ia3Config(learning_rate=0.3, steps_per_round=4),
    "full": FullConfig(learning_rate=1e-2, steps_per_round=4),
}


def said(evaluation):
    return [text.strip() for text in evaluation.completions]


@pytest.mark.parametrize("name", LEARNERS)
def test_both_say_what_they_said_in_the_sweep(name, tmp_path):
    base = load("builtin:tiny")
    made = LEARNERS[name].build(base, TASK, 0)
    learner = made if hasattr(made, "round") else Solo(base, made, 0)
    before = said(learner.evaluate())
    learner.round()
    after = said(learner.evaluate())
    learner.save(str(tmp_path))
    learner.close()
    assert before != after

    models = SideBySide("builtin:tiny", tmp_path)
    asked = [tuple(models.ask(example.prompt, TASK.max_new_tokens)) for example in TASK.search()]
    assert [trained.text for trained, _ in asked] == after
    plain = Solo(load("builtin:tiny"), LEARNERS["lora"].build(load("builtin:tiny"), TASK, 0), 0)
    assert [base.text for _, base in asked] == said(plain.evaluate())
    plain.close()
    again = [tuple(models.ask(example.prompt, TASK.max_new_tokens)) for example in TASK.search()]
    assert again == asked, "turning the adapter off and on leaves nothing behind"


def test_a_cut_off_answer_says_so(tmp_path):
    base = load("builtin:tiny")
    learner = Solo(base, LEARNERS["lora"].build(base, TASK, 0), 0)
    learner.save(str(tmp_path))
    learner.close()
    assert [one.ended for one in SideBySide("builtin:tiny", tmp_path).ask(TASK.search()[0].prompt, 1)] == [False, False]


def test_an_adapter_with_biases_of_its_base_is_refused_as_the_untouched_base_would_keep_them(tmp_path):
    base = load("builtin:tiny")
    learner = Solo(base, LEARNERS["lora"].build(base, TASK, 0), 0)
    learner.save(str(tmp_path))
    learner.close()
    file = tmp_path / CONFIG_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bias": "lora_only"}))
    with pytest.raises(ValueError, match=r"holds biases of its base \(bias='lora_only'\)") as told:
        SideBySide("builtin:tiny", tmp_path)
    assert "\n" not in str(told.value)
