"""The division of a host's time among its trials, by a clock that is moved by hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sweeps.results.trial_params import TrialParams
from tests.support.packing_kit import BASE, CONFIGS, SHAPE, opened
from tests.support.scripted_learner import ROWS, judged, scripted
from tests.support.toys import Letters
from trainables.core import Adapter, Complete, Evaluation, Pair, Queries, Read, RoundResult
from trainables.learners.lm.full import FullConfig
from trainables.packed.host import Host
from trainables.runtime.trial import Trial

LORA = Adapter(r=2, lora_alpha=4.0)
SHORT = ROWS[0]  # of 6 tokens, in lanes of 8
FORWARD, STEP, OWN = 8.0, 3.0, 5.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def slow(self, do: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        """`do`, which takes so long."""

        def done(*args: Any, **others: Any) -> Any:
            self.now += seconds
            return do(*args, **others)

        return done


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("trainables.packed.time_meter.time", SimpleNamespace(perf_counter=made))
    return made


def timed_host(clock: Clock, **sizes: int) -> Host:
    host = Host(BASE, replace(SHAPE, **sizes))
    host.stack.run = clock.slow(host.stack.run, FORWARD)  # type: ignore[method-assign]
    host.optimizer.step = clock.slow(host.optimizer.step, STEP)  # type: ignore[method-assign]
    return host


def test_a_batch_is_shared_by_rows_a_step_equally_and_a_learner_s_own_time_is_its_own(clock: Clock) -> None:
    host = timed_host(clock)
    one, three = scripted(LORA, [SHORT]), scripted(LORA, [SHORT] * 3)
    one.next_rows = clock.slow(one.next_rows, OWN)
    host.open("one", one)
    host.open("three", three)
    found = host.run({"one": "round", "three": "round"})
    assert found["one"].metrics["train_seconds"] == pytest.approx(FORWARD / 4 + STEP / 2 + OWN)
    assert found["three"].metrics["train_seconds"] == pytest.approx(FORWARD * 3 / 4 + STEP / 2)
    assert found["one"].metrics["tokens_per_second"] == pytest.approx(6 / found["one"].metrics["train_seconds"])
    assert found["three"].metrics["tokens_per_second"] == pytest.approx(18 / found["three"].metrics["train_seconds"])
    assert "tokens" not in found["one"].metrics
    alone = host.round("three")
    assert alone.metrics["train_seconds"] == pytest.approx(FORWARD + STEP), "an idle neighbour costs nothing"


def test_a_decoded_token_is_paid_by_the_rows_that_go_on(clock: Clock) -> None:
    """Both prompts are read in one pass; the longer completion then has the base to itself."""

    def completing(tokens: int) -> Queries:
        said = yield Complete([[5, 6, 7]], tokens)
        assert len(said[0].tokens) == tokens, "no end token may come"
        return judged()

    host = timed_host(clock)
    for name, tokens in (("brief", 1), ("long", 4)):
        host.open(name, scripted(LORA, evaluation=partial(completing, tokens)))
    found = host.run({"brief": "evaluate", "long": "evaluate"})
    assert found["brief"].metrics["evaluation_seconds"] == pytest.approx(FORWARD / 2)
    assert found["long"].metrics["evaluation_seconds"] == pytest.approx(FORWARD / 2 + 3 * FORWARD)


def test_what_the_untouched_base_answers_once_is_paid_by_those_who_ask_first(clock: Clock) -> None:
    def reading() -> Queries:
        yield Read([SHORT], untouched=True)
        yield Complete([[5, 6, 7]], 1, untouched=True)
        return judged()

    host = timed_host(clock)
    for name in ("a", "b", "late"):
        host.open(name, scripted(LORA, evaluation=reading))
    found = host.run({"a": "evaluate", "b": "evaluate"})
    assert [found[name].metrics["evaluation_seconds"] for name in "ab"] == [pytest.approx(FORWARD)] * 2
    assert host.evaluate("late").metrics["evaluation_seconds"] == 0


@pytest.mark.parametrize("short", [False, True], ids=["plenty", "short of memory"])
def test_seats_seconds_add_up_to_the_time_that_the_host_is_at_work(
    clock: Clock, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows have many lengths, with accumulation, watched updates and soft prompts; batches are also tried again."""
    host = timed_host(clock, lanes=16)
    run = host.stack.run

    def short_of_memory(lanes: torch.Tensor, *args: Any, **inputs: Any) -> Any:
        found = run(lanes, *args, **inputs)
        if len(lanes) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return found

    if short:
        host.stack.run = short_of_memory  # type: ignore[method-assign]
        for module in ("decoding", "shared_prefix"):
            monkeypatch.setattr(f"trainables.packed.{module}.MIN_LANES", 1)
    configs = {name: CONFIGS[name] for name in ("wide", "both", "more rows than lanes")}
    for name, config in configs.items():
        opened(host, name, config)
    host.open("watched", scripted(LORA, [SHORT], watch_updates=True, steps=2))
    totals = dict.fromkeys(host.trials, 0.0)
    for number in range(2):
        for what in ("round", "evaluate"):
            work = {name: what for name in totals if what == "round" or name != "watched"}
            for name, one in host.run(work).items():  # type: ignore[arg-type]
                totals[name] += one.metrics["train_seconds" if what == "round" else "evaluation_seconds"]
        between = clock.now
        clock.now += 1000.0 * (number + 1)  # nobody's
        assert sum(totals.values()) == pytest.approx(between - 1000.0 * number)
    assert min(totals.values()) > 0


def test_by_a_real_clock_seats_seconds_are_not_more_than_what_passes() -> None:
    host = Host(BASE, SHAPE)
    for name in ("lora", "wide"):
        opened(host, name, CONFIGS[name])
    start = time.perf_counter()
    trained = host.run(dict.fromkeys(host.trials, "round"))
    asked = host.run(dict.fromkeys(host.trials, "evaluate"))
    passed = time.perf_counter() - start
    own = [one.metrics["train_seconds"] for one in trained.values()]
    own += [one.metrics["evaluation_seconds"] for one in asked.values()]
    assert min(own) > 0
    assert sum(own) <= passed


def test_a_trial_counts_its_share_and_not_the_time_that_passes(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of a seat say what they took; what a learner does not say is measured. A restored trial counts on."""
    clock = Clock()
    monkeypatch.setattr("trainables.runtime.trial.time", SimpleNamespace(perf_counter=clock))
    seat = SimpleNamespace(
        round=clock.slow(lambda: RoundResult(1.0, 1, metrics={"train_seconds": 2.0}), 50.0),
        evaluate=clock.slow(lambda: Evaluation(0.5, [], metrics={"evaluation_seconds": 0.5}), 70.0),
        state=lambda: b"state",
        load=lambda state: None,
        save=lambda folder: None,
    )
    other = SimpleNamespace(
        round=clock.slow(lambda: RoundResult(1.0, 1), 3.0), evaluate=clock.slow(lambda: Evaluation(0.5, []), 4.0)
    )
    lost = SimpleNamespace(round=clock.slow(lambda: RoundResult(math.nan, 1, metrics={"train_seconds": 2.0}), 50.0))

    class Resolved(Trial):
        def setup(self, config: dict[str, Any], *_: Any) -> None:
            super().setup(config, lambda config: Pair(FullConfig(), Letters()))

    def opened_by(learner: Any) -> Trial:
        monkeypatch.setattr("trainables.runtime.trial.open_learner", lambda *args, **others: learner)
        return Resolved({"params": TrialParams("full", {})})

    trial = opened_by(seat)
    names = ("train_seconds", "evaluation_seconds", "seconds", "total_seconds")
    rounds = [trial.step(), trial.step()]
    assert [[told[name] for name in names] for told in rounds] == [[2, 0.5, 2.5, 2.5], [2, 0.5, 2.5, 5.0]]
    trial.save_checkpoint(str(tmp_path))
    again = opened_by(seat)
    again.load_checkpoint(str(tmp_path))
    assert again.step()["total_seconds"] == 7.5
    told = opened_by(other).step()
    assert [told[name] for name in names] == [3, 4, 7, 7]
    told = opened_by(lost).step()
    assert (told["diverged"], told["score"], told["seconds"], told["total_seconds"]) == (True, 0.0, 2.0, 2.0)
    assert "evaluation_seconds" not in told
