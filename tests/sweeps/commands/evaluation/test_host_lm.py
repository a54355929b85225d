"""A model in a host answers lm-eval as lm-eval's own Hugging Face model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.lm_eval_kit import COUNT, write_tasks
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import load
from trainables.models.merge import merge
from trainables.packed.saved_model import open_trained, open_untouched
from trainables.packed.solo import Solo
from trainables.tasks.arena.task import ArenaTask

pytest.importorskip("lm_eval", reason="lm-eval is not installed: make lm-eval")

from lm_eval.models.huggingface import HFLM

from sweeps.commands.evaluation.host_lm import HostLM
from sweeps.commands.evaluation.tasks import Tasks

TASK = ArenaTask(train_size=16, search_size=5, test_size=5)
LEARNERS = {
    "lora": LoraConfig(learning_rate=3e-2, steps_per_round=4),
    "soft_prompt": SoftPromptConfig(learning_rate=0.3, steps_per_round=4),
    "hybrid": HybridConfig(learning_rate=3e-2, prompt_learning_rate=0.3, steps_per_round=4),
    "ia3": Ia3Config(learning_rate=0.3, steps_per_round=4),
    "dora": DoraConfig(learning_rate=3e-2, steps_per_round=4),
    "full": FullConfig(learning_rate=1e-2, steps_per_round=4),
}


def saved(name: str, folder: Path) -> Path:
    """Train a round and save it."""
    base = load("builtin:tiny")
    made = LEARNERS[name].build(base, TASK, 0)
    learner = made if hasattr(made, "round") else Solo(base, made, 0)
    learner.round()
    learner.save(str(folder))
    learner.close()
    load.cache_clear()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


def tasks(folder: Path, *names: str, num_fewshot: int | None = None) -> Tasks:
    return Tasks(names or ["own_*"], folder, num_fewshot)


def likelihoods(results: Any, task: str) -> list[float]:
    """All log-likelihoods that a model gave to a task, in order."""
    responses = [one for sample in results["samples"][task] for one in sample["resps"]]
    return [one[0] if isinstance(one, tuple) else one for (one,) in responses]


def metrics(results: Any, task: str) -> dict[str, float]:
    return {name: value for name, value in results["results"][task].items() if isinstance(value, float)}


def test_lora_answers_as_the_merged_model_does_in_lm_eval(folder: Path, tmp_path: Path) -> None:
    adapter = saved("lora", tmp_path / "adapter")
    merge("builtin:tiny", adapter, tmp_path / "merged")
    asked = tasks(folder)
    reference = asked.ask(HFLM(str(tmp_path / "merged"), device="cpu", dtype="float32", batch_size=8), None, False)
    model = open_trained(load("builtin:tiny"), adapter)
    own = asked.ask(HostLM(model, "winner"), None, False)
    model.host.shut()
    load.cache_clear()
    for task in ("own_choice", "own_likelihood", "own_rolling"):
        found, expected = likelihoods(own, task), likelihoods(reference, task)
        assert len(found) >= COUNT
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 1e-3, task
    for task in asked.tasks:
        assert metrics(own, task) == pytest.approx(metrics(reference, task), rel=1e-4), task
    said = [one["filtered_resps"] for one in own["samples"]["own_generate"]]
    assert said == [one["filtered_resps"] for one in reference["samples"]["own_generate"]]
    assert 0 < own["results"]["own_choice"]["acc,none"] < 1
    assert len(metrics(own, "own_choice")) == 2


@pytest.mark.parametrize("name", LEARNERS)
def test_every_winner_answers_in_another_way_than_its_base(name: str, folder: Path, tmp_path: Path) -> None:
    adapter = saved(name, tmp_path / "adapter")
    asked = tasks(folder, "own_choice", "own_generate")
    base = load("builtin:tiny")
    load.cache_clear()
    model = open_trained(base, adapter)
    virtual = model.num_virtual_tokens
    trained = asked.ask(HostLM(model, "winner", virtual), 4, False)
    model.host.shut()
    untouched = asked.ask(HostLM(open_untouched(base), "untouched", virtual), 4, False)
    fresh = load("builtin:tiny")
    load.cache_clear()
    before = asked.ask(HostLM(open_untouched(fresh), "untouched", virtual), 4, False)
    assert likelihoods(untouched, "own_choice") == likelihoods(before, "own_choice")
    apart = zip(likelihoods(trained, "own_choice"), likelihoods(before, "own_choice"), strict=True)
    assert all(abs(a - b) > 1e-3 for a, b in apart)
