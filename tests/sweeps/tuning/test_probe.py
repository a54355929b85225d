"""`--plan` measures a part of a round and scales it up."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from benchmarks.plan import compared
from sweeps.tuning.probe import FEW, SampledLearner, _sampled_round, checkpoint_bytes, measure
from tests.support.arc_files import ids, recolour, write
from tests.support.percell_kit import SHORT as PERCELL
from tests.support.toys import Digits, Letters, ToyConfig
from trainables.core import Complete, Completion, Pair, Read, RoundResult, Row
from trainables.learners.lm.cot import CotConfig
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.dpo import DpoConfig
from trainables.learners.lm.grpo import GrpoConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.tasks.arc.task import ArcTask
from trainables.tasks.arena.task import ArenaTask
from trainables.tasks.strategyqa.task import StrategyQaTask
from trainables.training.dialogue import run_queries

LENGTHS = [10, 30, 20, 40] * 16
ROW = Row((1, 2, 3), (False, True, True))


class Asking:
    def evaluate(self, split):
        self.completions = yield Complete([[0] * length for length in LENGTHS], 4)
        self.read = yield Read([ROW] * 3)


@dataclass
class TokenClock:
    """A request takes 100 s and each token a second."""

    now: float = 0.0
    asked: list[int] = field(default_factory=list)

    def answer(self, query):
        items = query.prompts if isinstance(query, Complete) else query.rows
        self.asked.append(len(items))
        self.now += 100 + sum(len(item.tokens) if isinstance(item, Row) else len(item) for item in items)
        if isinstance(query, Complete):
            return [Completion([len(prompt)]) for prompt in query.prompts]
        return [[-1.0, -3.0] for _ in query.rows]


@pytest.mark.parametrize(
    ("budget_s", "answered", "seconds"),
    [
        (1, [8], 8 * 300),  # the first eight prompts take 300 s, and are an eighth of all tokens
        (1200, [8, 24, 64], 100 + 64 * 25),
        (500, [8, 24], 100 + 64 * 25),
        (10_000, [8, 64], 100 + 64 * 25),
    ],
)
def test_a_query_is_sampled_by_length_and_scaled_up_by_tokens(monkeypatch, budget_s, answered, seconds):
    inner, clock = Asking(), TokenClock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    sampled = SampledLearner(inner, budget_s)
    queries, reply = sampled.evaluate("search"), None
    with suppress(StopIteration):
        while True:
            reply = clock.answer(queries.send(reply))
    assert clock.asked[: len(answered)] == answered
    assert sampled.query_s == pytest.approx(seconds + 109)
    assert (sampled.asked, sampled.answered) == (len(LENGTHS) + 3, answered[-1] + 3)
    assert [c.tokens for c in inner.completions] == [[length] for length in LENGTHS]  # from one of its length
    assert inner.read == [[-1.0, -3.0]] * 3


class Sampling:
    """Samples before every fourth of its eight steps. On its clock a request takes 100 s, as above, and a step 1 s."""

    steps_per_round, optimizer = 8, SimpleNamespace(gradient_accumulation_steps=1)

    def __init__(self, clock):
        self.clock, self.steps = clock, 0

    def prepare(self):
        yield from ()

    def prepare_step(self):
        if self.steps % 4 == 0:
            yield Complete([[0] * 50], 4)
        self.steps += 1

    def next_rows(self):
        return [ROW] * 2

    def evaluate(self, split):
        yield from ()


class Driven:
    """Takes a learner's steps as a host does, on a clock of its own."""

    def __init__(self, learner, clock):
        self.learner, self.clock = learner, clock

    def round(self):
        for queries in (self.learner.prepare(), self.learner.prepare_step()):
            run_queries(queries, self.clock.answer)
        self.learner.next_rows()
        self.clock.now += 1
        return RoundResult(0.0, 1)

    def evaluate(self):
        run_queries(self.learner.evaluate("search"), self.clock.answer)


@pytest.mark.parametrize(("seconds", "steps"), [(0, 5), (10_000, 8)])
def test_what_is_sampled_before_some_steps_counts_as_often_as_a_round_samples(monkeypatch, seconds, steps):
    clock = TokenClock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    sampled = SampledLearner(Sampling(clock), 1)
    costs = _sampled_round(Driven(sampled, clock), sampled, seconds)
    assert costs["measured"].startswith(f"{steps} of 8 steps")
    assert costs["round_s"] == pytest.approx(2 * 150 + 8 * 1)


def test_a_part_of_a_round_is_compared_with_a_whole_one():
    measured, estimate, real = compared(Pair(LoraConfig(), ArenaTask(), "builtin:tiny"), 0.5)
    assert "of 20 steps" in measured
    assert estimate > 0
    assert real > 0


@pytest.mark.parametrize(
    ("pair", "measured"),
    [
        (Pair(CotConfig(), StrategyQaTask(), "builtin:tiny"), "2 of 20 steps"),
        (Pair(DpoConfig(), StrategyQaTask(), "builtin:tiny"), "2 of 20 steps"),
        (Pair(GrpoConfig(), ArenaTask(), "builtin:tiny"), "2 of 8 steps"),
        (Pair(GrpoConfig(num_iterations=3), ArenaTask(), "builtin:tiny"), "4 of 24 steps"),
        (Pair(ToyConfig(), Digits(), ""), "a whole round and evaluation"),
    ],
)
def test_learners_that_train_in_another_way_are_measured(pair, measured):
    costs = measure(pair, 0, 0.0)
    assert costs["measured"].startswith(measured)
    assert all(costs[name] > 0 for name in ("round_s", "checkpoint", "trainable_parameters"))


@pytest.mark.parametrize("config", [LoraConfig, DoraConfig])
def test_a_checkpoint_of_the_largest_weights_is_as_large_as_if_they_had_been_trained(config):
    """DoRA's optimizer has no moments before its first step."""
    small, large = (Pair(config(r=r, steps_per_round=1), Letters(size=4), "builtin:tiny") for r in (4, 32))
    expected = measure(large, 0, 0.0)["checkpoint"]
    assert measure(small, 0, 0.0, large)["checkpoint"] == pytest.approx(expected, rel=0.05)
    assert measure(small, 0, 0.0, small)["checkpoint"] < expected / 4


def test_of_a_model_for_each_question_a_few_are_measured_and_scaled_up(tmp_path):
    """50 tasks of one size, of which twenty are trained; and one of the test split, asked by itself."""
    files = {key: recolour() for key in (*ids("search", 50), *ids("train", 1), *ids("test", 3))}
    task = ArcTask(data=write(tmp_path / "tasks", files))
    config = replace(PERCELL, steps_per_round=1)
    costs = measure(Pair(config, task), 0, 0.0)
    assert costs["measured"] == f"a whole round of {FEW} of 50 questions"
    assert costs["round_s"] > costs["evaluation_s"] > 0
    assert costs["test_question_s"] > 0
    assert costs["test_open_s"] > 0
    trained = config.build(None, task, 0)
    trained.round()
    assert costs["checkpoint"] == pytest.approx(checkpoint_bytes(trained), rel=0.1)
