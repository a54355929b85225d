"""Many trials in one host: each one's numbers are its own, bit by bit, whoever sits beside it."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.miniatures import CONFIGS as MINIATURES
from tests.miniatures import base, linear_modules
from tests.packing_kit import BASE, CONFIGS, SHAPE, WILD, Trial, alone, nan, opened, said, same
from trainables.bases import Base
from trainables.host import Host


@pytest.fixture(autouse=True)
def two_threads():
    """Products are cut up between threads: that must not depend on neighbours either."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["as this machine is", "always full"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as on a machine whose matrix products depend on the size of the batch."""
    if request.param == "always full":
        monkeypatch.setattr("trainables.work.rows_stand_alone", lambda stack: False)


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("beside", ["nobody", "everybody", "wild", "NaN"])
def test_a_seat_is_bit_identical_whoever_sits_beside_it(name: str, beside: str) -> None:
    wanted = alone(CONFIGS[name], rounds=2)
    host = Host(BASE, SHAPE)
    if beside != "nobody":  # so that the trial also gets another seat than alone
        opened(host, "first", WILD["learning rate 1e3"])
    opened(host, "t", CONFIGS[name])
    if beside == "everybody":
        host.close("first")
    others = {"everybody": ["both", "lora", "more rows than lanes"], "wild": [*WILD], "NaN": ["wide", "prompt"]}
    for other in others.get(beside, []):
        opened(host, other, (CONFIGS | WILD)[other], seed=7)
        if beside == "NaN":
            nan(host, other)
    for number in range(2):
        metrics = host.run(dict.fromkeys(host._seats, "round"))
        assert metrics["t"]["loss"] == wanted.losses[number]
        assert same(host.values("t"), wanted.values[number])
        scored = host.run(dict.fromkeys(host._seats, "evaluate"))
        assert said(scored["t"]) == wanted.said[number]
        if beside == "NaN":
            assert all(math.isnan(metrics[other]["loss"]) for other in others["NaN"])
    host.shut()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_trials_that_come_and_go_in_any_order_keep_their_trajectories(seed: int) -> None:
    _trials_that_come_and_go(random.Random(seed), BASE, 14)


@pytest.mark.parametrize("family", [family for family in MINIATURES if family != "qwen2"])
def test_so_do_trials_on_other_families(family: str) -> None:
    compared = [_trials_that_come_and_go(random.Random(f"{family} {seed}"), base(family), 8) for seed in range(2)]
    assert sum(compared) > 10


def _trials_that_come_and_go(rng: random.Random, on: Base, events: int) -> int:
    """A random schedule: open, step in company, answer, move to another seat through a state, end in the middle, run
    wild or turn NaN. How many rounds were what they are alone."""
    host = Host(on, SHAPE)
    wanted: dict[str, Trial] = {}
    done: dict[str, int] = {}
    compared = 0
    every_module = replace(CONFIGS["all modules"], target_modules=linear_modules(on))
    configs = CONFIGS | WILD | {"all modules": every_module}
    for event in range(events):
        if len(host._seats) < 2 or (len(host._seats) < SHAPE.seats and rng.random() < 0.5):
            name = rng.choice([*configs])
            trial_id = f"{event} {name}"
            opened(host, trial_id, configs[name], seed=event)
            done[trial_id] = 0
            if name not in WILD:
                wanted[trial_id] = alone(configs[name], 3, seed=event, on=on)
            elif rng.random() < 0.3:
                nan(host, trial_id)
        elif host._seats and rng.random() < 0.25:
            leaving = rng.choice([*host._seats])
            state = host.state(leaving)
            host.close(leaving)
            if leaving in wanted and rng.random() < 0.6:  # it comes back, to whatever seat is free
                opened(host, leaving, configs[leaving.split(" ", 1)[1]], seed=int(leaving.split()[0]))
                host.load(leaving, state)
        working = {t: "round" for t in host._seats if done[t] < 3 and rng.random() < 0.7}
        metrics = host.run(working)
        scored = host.run(dict.fromkeys(working, "evaluate")) if rng.random() < 0.3 else {}
        for trial_id in working:
            done[trial_id] += 1
            if trial_id in wanted:
                compared += 1
                assert metrics[trial_id]["loss"] == wanted[trial_id].losses[done[trial_id] - 1]
                assert same(host.values(trial_id), wanted[trial_id].values[done[trial_id] - 1])
                assert trial_id not in scored or said(scored[trial_id]) == wanted[trial_id].said[done[trial_id] - 1]
        _pads_are_zero(host)
    host.shut()
    return compared


def _pads_are_zero(host: Host) -> None:
    """Free slots hold nothing; a seat holds nothing outside its own rank, prompt and modules."""
    taken = {seat.slot: seat for seat in host._seats.values()}
    for slot in range(SHAPE.seats + 1):
        for buffer in (host._stack.values, host._optimizer.first, host._optimizer.second):
            rest = buffer[slot].clone()
            if slot in taken:
                seat = taken[slot]
                for name in seat.made.values:
                    part = host._stack.parts[name]
                    own = rest[part.start : part.stop].view(part.shape)
                    own[tuple(slice(n) for n in seat.made.values[name].shape)] = 0
            assert not rest.any()
