"""Faults in a host: one trial's is its own, memory that runs out costs nothing, and full seats are named."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.packing_kit import BASE, CONFIGS, SHAPE, TASK, alone, opened, same
from trainables.core import Row
from trainables.host import Host
from trainables.learners.soft_prompt import SoftPromptConfig
from trainables.shape import HostFull


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
    assert all(one["memory_halvings"] in (1, 2, 3) for one in metrics.values()), "the trials say so"
    for name, value in host.values("t1").items():
        torch.testing.assert_close(value, wanted.values[0][name], rtol=1e-3, atol=1e-6)
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
