"""Many trials in one host: each one's numbers are its own, bit by bit, whoever sits beside it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.miniatures import base
from tests.toys import Letters
from trainables.core import Row
from trainables.host import Host
from trainables.learners.hybrid import HybridConfig
from trainables.learners.lora import LoraConfig
from trainables.learners.soft_prompt import SoftPromptConfig
from trainables.shape import HostFull, Shape

SHAPE = Shape(seats=4, lanes=8, decode_lanes=16, max_rank=8, max_prompt=6)
TASK = Letters(size=12)
BASE = base("qwen2")
QUICK: dict[str, Any] = {"steps_per_round": 3, "learning_rate": 1e-2}
CONFIGS = {
    "lora": LoraConfig(**QUICK, r=4, per_device_train_batch_size=4, lora_dropout=0.2, weight_decay=0.1),
    "wide": LoraConfig(**QUICK, r=8, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_grad_norm=0.3),
    "all modules": LoraConfig(**QUICK, r=2, target_modules=("q_proj", "o_proj", "gate_proj", "down_proj")),
    "more rows than lanes": LoraConfig(**QUICK, r=3, per_device_train_batch_size=11),
    "prompt": SoftPromptConfig(**QUICK, num_virtual_tokens=5, mode="online", replay_ratio=1),
    "both": HybridConfig(**QUICK, r=4, num_virtual_tokens=3, lr_scheduler_type="cosine", warmup_steps=2, total_steps=9),
}
WILD = {
    "learning rate 1e3": LoraConfig(steps_per_round=3, r=8, learning_rate=1e3, weight_decay=0.5),
    "wild prompt": SoftPromptConfig(steps_per_round=3, learning_rate=1e6, num_virtual_tokens=6),
}


@dataclass
class Trial:
    """A trial's trajectory: after each round its parameters, loss and completions."""

    values: list[dict[str, torch.Tensor]]
    losses: list[float]
    items: list[Any]


def opened(host: Host, trial_id: str, config: Any, seed: int = 0) -> None:
    host.open(trial_id, config.build(BASE, TASK, seed), seed)


def nan(host: Host, trial_id: str) -> None:
    """Make everything that a trial trains NaN."""
    seat = host._seats[trial_id]
    for name in seat.made.values:
        seat._own(host._stack, name, None).fill_(math.nan)


def alone(config: Any, rounds: int, seed: int = 0) -> Trial:
    """The trial by itself in a host of the same shape."""
    host, trial = Host(BASE, SHAPE), Trial([], [], [])
    opened(host, "t", config, seed)
    for _ in range(rounds):
        trial.losses.append(host.round("t")["loss"])
        trial.values.append(host.values("t"))
        trial.items.append(host.evaluate("t")["items"])
    host.shut()
    return trial


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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
        assert scored["t"]["items"] == wanted.items[number]
        if beside == "NaN":
            assert all(math.isnan(metrics[other]["loss"]) for other in others["NaN"])
    host.shut()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_trials_that_come_and_go_in_any_order_keep_their_trajectories(seed: int) -> None:
    """Random schedules: open, step in company, move to another seat through a state, end in the middle, run wild."""
    rng = random.Random(seed)
    host = Host(BASE, SHAPE)
    wanted: dict[str, Trial] = {}
    done: dict[str, int] = {}
    configs = CONFIGS | WILD
    for event in range(14):
        if len(host._seats) < SHAPE.seats and rng.random() < 0.5:
            name = rng.choice([*configs])
            trial_id = f"{event} {name}"
            opened(host, trial_id, configs[name], seed=event)
            done[trial_id] = 0
            if name not in WILD:
                wanted[trial_id] = alone(configs[name], 3, seed=event)
        elif host._seats and rng.random() < 0.25:
            leaving = rng.choice([*host._seats])
            state = host.state(leaving)
            host.close(leaving)
            if leaving in wanted and rng.random() < 0.6:  # it comes back, to whatever seat is free
                opened(host, leaving, configs[leaving.split(" ", 1)[1]], seed=int(leaving.split()[0]))
                host.load(leaving, state)
        working = {t: "round" for t in host._seats if done[t] < 3 and rng.random() < 0.7}
        metrics = host.run(working)
        for trial_id in working:
            done[trial_id] += 1
            if trial_id in wanted:
                assert metrics[trial_id]["loss"] == wanted[trial_id].losses[done[trial_id] - 1]
                assert same(host.values(trial_id), wanted[trial_id].values[done[trial_id] - 1])
        _pads_are_zero(host)
    host.shut()


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


def test_one_trial_s_fault_is_its_own() -> None:
    """A learner that raises ends alone; its neighbours finish the round as if nothing had been."""
    wanted = alone(CONFIGS["lora"], rounds=1)
    host = Host(BASE, SHAPE)
    opened(host, "t", CONFIGS["lora"])
    broken = CONFIGS["wide"].build(BASE, TASK, 0)
    calls = []
    rows = broken.next_rows
    broken.next_rows = lambda: rows() if len(calls) < 3 and not calls.append(1) else 1 / 0
    host.open("broken", broken)
    host.start("t", "round")
    host.start("broken", "round")
    results: dict[str, Any] = {}
    while host.busy:
        results |= host.tick()
    assert isinstance(results["broken"], ZeroDivisionError)
    assert results["t"]["loss"] == wanted.losses[0]
    assert same(host.values("t"), wanted.values[0])


def test_halving_keeps_the_same_trials_packed_and_alone() -> None:
    """24 trials, rungs after 1 and 3 rounds that keep a third: four seats and one seat rank and keep the same."""
    shapes = {"packed": SHAPE, "alone": replace(SHAPE, seats=1)}
    kept: dict[str, list[list[tuple[str, float]]]] = {}
    for name, shape in shapes.items():
        host, going, rungs = Host(BASE, shape), {str(i): b"" for i in range(24)}, []
        for rounds in (1, 2):
            losses = {}
            names = list(going)
            for start in range(0, len(names), shape.seats):
                group = names[start : start + shape.seats]
                for trial_id in group:
                    rate = 1e-3 * 1.25 ** int(trial_id)
                    config = LoraConfig(steps_per_round=2, learning_rate=rate, r=(2, 4, 8)[int(trial_id) % 3])
                    opened(host, trial_id, config)
                    if going[trial_id]:
                        host.load(trial_id, going[trial_id])
                for _ in range(rounds):
                    metrics = host.run(dict.fromkeys(group, "round"))
                for trial_id in group:
                    losses[trial_id] = metrics[trial_id]["loss"]
                    going[trial_id] = host.state(trial_id)
                    host.close(trial_id)
            ranked = sorted(losses.items(), key=lambda pair: pair[1])
            rungs.append(ranked)
            going = {trial_id: going[trial_id] for trial_id, _ in ranked[: len(ranked) // 3]}
        kept[name] = rungs
        host.shut()
    assert kept["packed"] == kept["alone"]


@pytest.mark.parametrize("plant", ["loss raises", "token out of range", "loss is NaN"])
def test_a_planted_fault_ends_its_trial_alone(plant: str) -> None:
    wanted = alone(CONFIGS["lora"], rounds=1)
    host = Host(BASE, SHAPE)
    broken = CONFIGS["wide"].build(BASE, TASK, 0)
    if plant == "token out of range":
        broken.next_rows = lambda: [Row((5, BASE.vocabulary, 1), (False, True, True))]
    elif plant == "loss is NaN":
        broken.loss = lambda logprobs, rows: sum(row.sum() for row in logprobs) * math.nan
    else:
        broken.loss = lambda logprobs, rows: logprobs[99]
    host.open("broken", broken)
    opened(host, "t", CONFIGS["lora"])
    host.start("t", "round")
    host.start("broken", "round")
    results: dict[str, Any] = {}
    while host.busy:
        results |= host.tick()
    if plant == "loss is NaN":
        assert math.isnan(results["broken"]["loss"])
        assert results["broken"]["steps"] == 0
    else:
        assert isinstance(results["broken"], ValueError if "token" in plant else IndexError)
    assert results["t"]["loss"] == wanted.losses[0]
    assert same(host.values("t"), wanted.values[0])


def test_out_of_memory_halves_the_batch_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator refuses more than three rows at a time, in training and in decoding: both rounds still end."""
    wanted = alone(CONFIGS["lora"], rounds=1)
    host = Host(BASE, SHAPE)
    for number in range(3):
        opened(host, f"t{number}", CONFIGS["lora"])
    forward = host._stack.run

    def short_of_memory(lanes: torch.Tensor, *args: Any, **inputs: Any) -> Any:
        if len(lanes) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(lanes, *args, **inputs)

    monkeypatch.setattr(host._stack, "run", short_of_memory)
    monkeypatch.setattr("trainables.decoding.FEWEST_LANES", 1)
    metrics = host.run(dict.fromkeys(host._seats, "round"))
    assert all(one["loss"] == pytest.approx(wanted.losses[0], rel=1e-5) for one in metrics.values())
    scores = host.run(dict.fromkeys(host._seats, "evaluate"))
    assert all(one["items"] == wanted.items[0] for one in scores.values())


def test_a_host_says_who_holds_its_seats() -> None:
    host = Host(BASE, replace(SHAPE, seats=2))
    opened(host, "a", CONFIGS["lora"])
    opened(host, "b", CONFIGS["lora"])
    opened(host, "a", CONFIGS["wide"])  # a restarted trial may open again
    with pytest.raises(HostFull, match=r"\['a', 'b'\]"):
        opened(host, "c", CONFIGS["lora"])
    host.close("a")
    host.close("a")
    opened(host, "c", CONFIGS["lora"])
    with pytest.raises(HostFull, match="max_prompt"):
        Host(BASE, SHAPE).open("long", SoftPromptConfig(num_virtual_tokens=7).build(BASE, TASK, 0))
