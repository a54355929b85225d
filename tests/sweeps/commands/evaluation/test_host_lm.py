"""A model in a host answers lm-eval as lm-eval's own Hugging Face model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from tests.support.lm_eval_kit import COUNT, write_tasks
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.models.merge import merge
from trainables.packed.saved_model import open_trained, open_untouched
from trainables.packed.solo import Solo
from trainables.tasks.arena.task import ArenaTask

pytest.importorskip("lm_eval", reason="lm-eval is not installed: make lm-eval")

from lm_eval.models.huggingface import HFLM

from sweeps.commands.evaluation.host_lm import CannotAsk, HostLM
from sweeps.commands.evaluation.tasks import Tasks

TASK = ArenaTask(train_size=16, search_size=5, test_size=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def own() -> HostLM:
    """The untouched base in a host."""
    base = load("builtin:tiny")
    load.cache_clear()
    return HostLM(open_untouched(base), "untouched")


@pytest.fixture
def reference() -> HFLM:
    base = load("builtin:tiny")
    load.cache_clear()
    return HFLM(base.model, tokenizer=base.tokenizer, batch_size=8)


def likelihoods(results: Any, task: str) -> list[float]:
    """All log-likelihoods that a model gave to a task, in order."""
    responses = [one for sample in results["samples"][task] for one in sample["resps"]]
    return [one[0] if isinstance(one, tuple) else one for (one,) in responses]


def metrics(results: Any, task: str) -> dict[str, float]:
    return {name: value for name, value in results["results"][task].items() if isinstance(value, float)}


def said(results: Any, task: str) -> list[str]:
    return [sample["resps"][0][0] for sample in results["samples"][task]]


def test_a_winner_answers_as_the_merged_model_does_in_lm_eval(folder: Path, tmp_path: Path) -> None:
    base = load("builtin:tiny")
    learner = Solo(base, LoraConfig(learning_rate=3e-2, steps_per_round=4).build(base, TASK, 0), 0)
    learner.round()
    (tmp_path / "adapter").mkdir()
    learner.save(str(tmp_path / "adapter"))
    learner.close()
    merge("builtin:tiny", tmp_path / "adapter", tmp_path / "merged", torch.float32)  # whose base has bfloat16
    tasks = Tasks(["own_*"], folder, None)
    merged = HFLM(str(tmp_path / "merged"), device="cpu", dtype="float32", batch_size=8)
    expected = tasks.ask(merged, None, False)
    model = open_trained(load("builtin:tiny"), tmp_path / "adapter")
    load.cache_clear()
    found = tasks.ask(HostLM(model, "winner"), None, False)
    model.host.shut()
    for task in ("own_choice", "own_likelihood", "own_rolling"):
        both = likelihoods(found, task), likelihoods(expected, task)
        assert len(both[0]) >= COUNT
        assert both[0] == pytest.approx(both[1], abs=1e-3), task
        assert metrics(found, task) == pytest.approx(metrics(expected, task), rel=1e-4), task
    assert 0 < metrics(found, "own_choice")["acc,none"] < 1
    assert said(found, "own_generate") == said(expected, "own_generate")
    assert metrics(found, "own_generate") == metrics(expected, "own_generate")


@pytest.mark.parametrize("until", [[], ["e"], ["\n", "Question:"]])
def test_answers_end_where_lm_eval_ends_them(own, reference, tmp_path: Path, monkeypatch, until: list[str]) -> None:
    """Also behind more tokens than are generated at first, and behind a question that is cut."""
    monkeypatch.setattr("sweeps.commands.evaluation.host_lm.FIRST_PART", 2)
    settings = {"until": until, "max_gen_toks": 90, "do_sample": False}
    long = {"doc_to_text": "{{text}} {{text}}\nQuestion: {{prompt}}\nAnswer:", "generation_kwargs": settings}
    tasks = Tasks(["own_generate"], write_tasks(tmp_path, own_generate=long), None)
    found = said(tasks.ask(own, 8, False), "own_generate")
    assert found == said(tasks.ask(reference, 8, False), "own_generate")
    assert max(len(own.tok_encode(text)) for text in found) > 2


def test_a_chat_template_and_examples_are_written_as_lm_eval_does(own, reference, folder: Path) -> None:
    tasks = Tasks(["own_generate"], folder, 2)
    found, expected = (tasks.ask(model, 5, True)["samples"]["own_generate"] for model in (own, reference))
    asked, wanted = ([one["arguments"] for one in each] for each in (found, expected))
    assert asked == wanted
    assert asked[0][0][0].count("<|im_start|>") == 6  # two examples with answers, the question, and the answer's start
    assert [one["resps"] for one in found] == [one["resps"] for one in expected]


def test_a_tokenizer_with_a_first_token_writes_it_once(own, reference) -> None:
    for one in (own.tokenizer, reference.tokenizer):
        one.bos_token = one.pad_token
        first = (one.bos_token, one.bos_token_id)
        one.backend_tokenizer.post_processor = TemplateProcessing(single=f"{first[0]} $A", special_tokens=[first])
    for text in ("A river", " A river ", f"{own.tokenizer.bos_token}A river", ""):
        assert own.tok_encode(text) == reference.tok_encode(text)
    assert own.tok_encode("A river")[0] == own.prefix_token_id == reference.prefix_token_id
    assert own.tok_encode(f"{own.tokenizer.bos_token}A river").count(own.prefix_token_id) == 1


def test_what_does_not_fit_the_context_is_refused_in_one_line(own, tmp_path: Path) -> None:
    endless = {"doc_to_target": "{{text}} {{text}} {{text}}", "metric_list": [{"metric": "acc"}]}
    tasks = Tasks(["own_likelihood"], write_tasks(tmp_path, own_likelihood=endless), None)
    with pytest.raises(CannotAsk, match=r"an answer of a task has \d+ tokens; 'builtin:tiny' reads 1 to 512"):
        tasks.ask(own, None, False)
    greedy = {"generation_kwargs": {"until": ["."], "max_gen_toks": 512}}
    tasks = Tasks(["own_generate"], write_tasks(tmp_path, own_generate=greedy), None)
    with pytest.raises(CannotAsk, match="max_gen_toks 512 of a task: give 1 to 511"):
        tasks.ask(own, 1, False)
