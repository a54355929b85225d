"""Many trials in one host: the other trials change no bit of a trial's numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.miniatures import CONFIGS as MINIATURES
from tests.support.miniatures import base, linear_modules
from tests.support.packing_kit import (
    BASE,
    BATCHES,
    BESIDE,
    CONFIGS,
    IN_BFLOAT16,
    SHAPE,
    WILD,
    Trial,
    alone,
    check_bit_identical,
    in_batches,
    nan,
    opened,
    said,
    same,
    threads,
)
from trainables.models.loading import Base
from trainables.packed.host import Host

# Every configuration beside each company, and any two of the four factors together in some case. All cases with two
# threads: `tests/e2e/test_packing.py`.
CASES = [
    (name, beside, BATCHES[(i + j) % 2], 1 + (i // 2 + j) % 2)
    for i, name in enumerate(CONFIGS)
    for j, beside in enumerate(company for company in BESIDE if company != "nobody")
]


@cache
def by_itself(config: Any, batches: str, threads: int, rounds: int = 2, seed: int = 0) -> Trial:
    """A trial without neighbours, computed once for all companies; by as many threads, with batches of this kind."""
    return alone(config, rounds, seed)


@pytest.mark.parametrize(("name", "beside", "batches", "number"), CASES)
def test_a_seat_is_bit_identical_whoever_sits_beside_it(name: str, beside: str, batches: str, number: int) -> None:
    with in_batches(batches), threads(number):
        check_bit_identical(by_itself(CONFIGS[name], batches, number), CONFIGS[name], beside)


@pytest.mark.parametrize(("name", "beside", "batches", "number"), [case for case in CASES if case[1] != "wild"][::2])
def test_so_it_is_on_a_base_in_bfloat16(name: str, beside: str, batches: str, number: int) -> None:
    with in_batches(batches), threads(number):
        check_bit_identical(alone(CONFIGS[name], 2, on=IN_BFLOAT16), CONFIGS[name], beside, IN_BFLOAT16)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_trained_on_a_base_in_bfloat16_is_in_float32(name: str) -> None:
    host = Host(IN_BFLOAT16, SHAPE)
    opened(host, "t", CONFIGS[name])
    host.round("t")
    optimizer = host.optimizer
    for values in (*host.values("t").values(), optimizer.gradient, optimizer.first, optimizer.second):
        assert values.dtype == torch.float32
        assert not torch.equal(values, values.bfloat16().float()) or not values.any(), "it was rounded on the way"
    host.shut()


def test_in_bfloat16_the_logits_of_all_rows_are_one_product() -> None:
    """Else torch copies the weights of the output layer for every row."""
    host, found = Host(IN_BFLOAT16, SHAPE), []
    opened(host, "t", CONFIGS["lora"])
    layer = IN_BFLOAT16.model.get_output_embeddings()
    watching = layer.register_forward_hook(lambda module, inputs, output: found.append(inputs[0]))
    host.round("t")
    watching.remove()
    assert found[0].shape[1] > 1
    assert all(one.is_contiguous() for one in found)
    host.shut()


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_trials_that_come_and_go_in_any_order_keep_their_trajectories(seed: int) -> None:
    number = 1 + seed % 2
    with threads(number):
        known = partial(by_itself, batches=BATCHES[0], threads=number, rounds=3)
        _trials_that_come_and_go(random.Random(seed), BASE, 12, known)


@pytest.mark.parametrize(
    ("family", "dtype", "number"),
    [
        (family, dtype, 1 + (i + j) % 2)
        for i, family in enumerate(MINIATURES)
        for j, dtype in enumerate((torch.float32, torch.bfloat16))
    ][1:],  # qwen2: above
)
def test_so_do_trials_on_other_families(family: str, dtype: torch.dtype, number: int) -> None:
    ours = base(family, dtype)
    with threads(number):
        known = cache(partial(alone, rounds=3, on=ours))
        _trials_that_come_and_go(random.Random(f"{family} {number}"), ours, 7, known)


def _trials_that_come_and_go(rng: random.Random, on: Base, rounds: int, by_itself: Callable[..., Trial]) -> None:
    """A random schedule: open, step in company, answer, move to another seat through a state, end in the middle, run
    wild or turn NaN; until so many rounds were what they are alone."""
    host = Host(on, SHAPE)
    wanted: dict[str, Trial] = {}
    done: dict[str, int] = {}
    compared = event = 0
    every_module = replace(CONFIGS["all modules"], target_modules=linear_modules(on))
    configs = CONFIGS | WILD | {"all modules": every_module}
    while compared < rounds:
        event += 1
        if len(host.trial_ids) < 2 or (len(host.trial_ids) < SHAPE.seats and rng.random() < 0.5):
            name = rng.choice([*configs])
            trial_id, seed = f"{event} {name}", event % 3
            opened(host, trial_id, configs[name], seed)
            done[trial_id] = 0
            if name not in WILD:
                wanted[trial_id] = by_itself(configs[name], seed=seed)
            elif rng.random() < 0.3:
                nan(host, trial_id)
        elif host.trial_ids and rng.random() < 0.25:
            leaving = rng.choice(host.trial_ids)
            state = host.state(leaving)
            host.close(leaving)
            if leaving in wanted and rng.random() < 0.6:  # it comes back, to whatever seat is free
                opened(host, leaving, configs[leaving.split(" ", 1)[1]], int(leaving.split()[0]) % 3)
                host.load(leaving, state)
        working = {t: "round" for t in host.trial_ids if done[t] < 3 and rng.random() < 0.7}
        metrics = host.run(working)
        scored = host.run(dict.fromkeys(working, "evaluate")) if rng.random() < 0.3 else {}
        for trial_id in working:
            done[trial_id] += 1
            if trial_id in wanted:
                compared += 1
                assert metrics[trial_id].loss == wanted[trial_id].losses[done[trial_id] - 1]
                assert same(host.values(trial_id), wanted[trial_id].values[done[trial_id] - 1])
                assert trial_id not in scored or said(scored[trial_id]) == wanted[trial_id].said[done[trial_id] - 1]
        _pads_are_zero(host)
    host.shut()


def _pads_are_zero(host: Host) -> None:
    """Free slots hold nothing; a seat holds nothing outside its own rank, prompt and modules."""
    taken = {seat.slot: seat for seat in host.trials.values()}
    for slot in range(SHAPE.seats + 1):
        for buffer in (host.stack.values, host.optimizer.first, host.optimizer.second):
            rest = buffer[slot].clone()
            if slot in taken:
                seat = taken[slot]
                for name in seat.made.values:
                    part = host.stack.parts[name]
                    own = rest[part.start : part.stop].view(part.shape)
                    own[tuple(slice(n) for n in seat.made.values[name].shape)] = 0
            assert not rest.any()
