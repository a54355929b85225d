"""Guards during a sweep: planted faults in real training, what is said of them, and what rungs were worth."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from sweeps.results.records import Final, TrialRecord
from sweeps.results.rungs import in_words
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from tests.support.report_kit import items
from trainables.checks.trial_warnings import best_round_warnings, first_round_warnings
from trainables.core import Adapter
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.models.loading import Base, load
from trainables.packed.host import Host
from trainables.tasks.arena.task import ArenaTask
from trainables.training.standalone import StandaloneLearner

TASK = ArenaTask(train_size=20, search_size=10, test_size=10)


@pytest.fixture
def base():
    """One of our own, to break."""
    tiny = load("builtin:tiny")
    return Base(tiny.name, copy.deepcopy(tiny.model), tiny.tokenizer)


def deafen(base):
    """Cut the gradient behind one projection, as a forgotten `detach` or `no_grad` does."""
    name = "model.layers.1.self_attn.q_proj"
    base.model.get_submodule(name).register_forward_hook(lambda module, inputs, output: output.detach())
    return name


def test_a_module_without_gradient_is_named_and_only_that(base):
    host = Host(base)
    host.open("a", HybridConfig(steps_per_round=2).build(base, TASK, 0))
    name = deafen(base)
    first = host.round("a")
    assert first.metrics["without_gradient"] == [name]
    assert "without_gradient" not in host.round("a").metrics, "once is enough"
    assert list(first_round_warnings(first.metrics)) == [f"no gradient in 1 module ({name})"]


def test_a_healthy_trial_is_not_marked(base):
    host = Host(base)
    host.open("a", HybridConfig(steps_per_round=1).build(base, TASK, 0))  # A has none in the first step, as B is zero
    trained = host.round("a")
    assert list(first_round_warnings(trained.metrics)) == []


def test_a_model_of_ones_own_is_watched_too(base):
    name = deafen(base)
    learner = FullConfig(steps_per_round=1).build(base, TASK, 0)
    assert isinstance(learner, StandaloneLearner)
    assert learner.round().metrics["without_gradient"] == [name]


def test_nothing_to_train_is_refused(base):
    host = Host(base)
    learner = HybridConfig().build(base, TASK, 0)
    learner.adapter = Adapter()
    with pytest.raises(ValueError, match="no trainable parameter"):
        host.open("a", learner)
    base.model.requires_grad_(False)
    with pytest.raises(ValueError, match=r"no parameter of .* is to be trained"):
        StandaloneLearner(base, base.model, learner, 0)


def test_marks_are_for_what_is_no_result():
    baselines = {"chance": 0.2, "constant": 0.25, "constant.logic": 0.9, "untouched": 0.3}
    assert list(best_round_warnings({"score": 0.31, "truncated": 0.05}, baselines)) == []
    assert list(best_round_warnings({"score": 0.3}, baselines)) == ["no better than untouched (30.0 %)"]
    assert list(best_round_warnings({"score": 0.5, "truncated": 0.4}, baselines)) == [
        "40 % of completions were cut off"
    ]
    assert list(best_round_warnings({"score": 0.5, "memory_writes": 0}, {})) == ["nothing was written into the memory"]
    assert list(best_round_warnings({"score": 0.5, "memory_writes": 3}, {})) == []
    many = {"without_gradient": ["a", "b", "c", "d"]}
    assert list(first_round_warnings(many)) == ["no gradient in 4 modules (a, b, c ...)"]


def record(number, early, late=None, status="finished"):
    history = [{"round": r, "score": s} for r, s in ((2, early), (8, late)) if s is not None]
    return TrialRecord(f"t{number}", number, TrialParams("lora", {}), status, TrialHistory(tuple(history)), 100)


def test_a_pruned_finalist_that_wins_is_told():
    records = [record(0, 0.5, 0.6), record(1, 0.3, status="pruned")]
    finals = [Final("trial 0", 0.6, items(0.5), "t0"), Final("trial 1 (default)", 0.3, items(0.8), "t1")]
    (said,) = in_words(records, finals, 8)
    assert said.startswith("The first finalist is trial 1, which ASHA had pruned at round 2")
    assert said.endswith("use --grace-period 4")
    assert in_words([replace(records[0]), replace(records[1], status="finished")], finals, 8) == []
