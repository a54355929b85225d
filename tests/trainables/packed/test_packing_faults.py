"""Faults in a host: one trial's is its own, memory that runs out costs nothing, and full seats are named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, Qwen2MoeConfig

from tests.support.miniatures import COMMON, DECODER, base
from tests.support.packing_kit import BASE, CONFIGS, SHAPE, TASK, alone, ended, opened, same
from tests.support.scripted_learner import ROWS, judged, scripted
from trainables.core import Adapter, Complete, Queries, Read, Row
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import Base
from trainables.packed.decoding import decode_prompts, generate
from trainables.packed.host import Host
from trainables.packed.specs import HostFull


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
    results = ended(host, "t", "broken")
    assert isinstance(results["broken"], ZeroDivisionError)
    assert results["t"].loss == wanted.losses[0]
    assert same(host.values("t"), wanted.values[0])


@pytest.mark.parametrize("plant", ["loss raises", "token out of range", "prompt out of range", "loss is NaN"])
def test_a_planted_fault_ends_its_trial_alone(plant: str) -> None:
    wanted = alone(CONFIGS["lora"], rounds=1)
    host = Host(BASE, SHAPE)
    broken = CONFIGS["wide"].build(BASE, TASK, 0)
    if plant == "token out of range":
        broken.next_rows = lambda: [Row((5, BASE.vocabulary, 1), (False, True, True))]
    elif plant == "prompt out of range":
        broken.prepare = lambda: iter_complete([[5, BASE.vocabulary]])
    elif plant == "loss is NaN":
        broken.loss = lambda logprobs, rows: sum(row.sum() for row in logprobs) * math.nan
    else:
        broken.loss = lambda logprobs, rows: logprobs[99]
    host.open("broken", broken)
    opened(host, "t", CONFIGS["lora"])
    results = ended(host, "t", "broken")
    if plant == "loss is NaN":
        assert math.isnan(results["broken"].loss)
        assert results["broken"].metrics["steps"] == 0
    else:
        assert isinstance(results["broken"], ValueError if "range" in plant else IndexError)
    assert results["t"].loss == wanted.losses[0]
    assert same(host.values("t"), wanted.values[0])


def iter_complete(prompts: list[list[int]]) -> Iterator[Complete]:
    yield Complete(prompts, 2)


def test_rows_longer_than_a_base_has_places_end_their_trial_alone() -> None:
    """GPT-2 has learned a vector for each of 128 places."""
    old = base("gpt2")
    host = Host(old, SHAPE)
    long, short = (CONFIGS["lora"].build(old, TASK, 0) for _ in range(2))
    long.next_rows = lambda: [Row((5,) * 129, (False,) * 128 + (True,))]
    host.open("long", long)
    host.open("short", short)
    results = ended(host, "long", "short")
    assert "pass the 128 places" in str(results["long"])
    assert math.isfinite(results["short"].loss)
    prompts = decode_prompts(SHAPE.seats, [[5] * 120, [5] * 20], 0, 24)
    said = generate(host.stack, prompts, 8)  # the longer one has no place left for 24 tokens, and nobody minds
    assert len(said[1].tokens) == 24 or said[1].ended
    host.shut()


def test_memory_that_runs_out_while_a_seat_is_opened_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each allocation of a larger buffer fails once: who trains goes on to the same numbers, and a second try works."""
    wanted, cat = alone(CONFIGS["lora"], rounds=2), torch.cat
    for failing in range(4):
        host, left = Host(BASE, SHAPE), [failing]
        opened(host, "t", CONFIGS["lora"])
        host.round("t")

        def short_of_memory(*args: Any, left: list[int] = left, **options: Any) -> torch.Tensor:
            left[0] -= 1
            if left[0] == -1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return cat(*args, **options)

        with monkeypatch.context() as short:
            short.setattr("trainables.packed.adapter_stack.torch.cat", short_of_memory)
            with pytest.raises(torch.OutOfMemoryError):
                opened(host, "large", CONFIGS["all modules"])
        assert host.round("t").loss == wanted.losses[1]
        opened(host, "large", CONFIGS["all modules"])
        assert math.isfinite(host.round("large").loss)
        assert same(host.values("t"), wanted.values[1])
        host.shut()


def test_a_neighbours_step_does_not_hide_a_gradient_that_is_not_finite() -> None:
    """The first of two micro-batches has a finite loss and an infinite gradient; a neighbour steps before the next."""
    for beside in (False, True):
        host = Host(BASE, SHAPE)
        learner = CONFIGS["wide"].build(BASE, TASK, 0)
        loss, calls = learner.loss, []

        def overflow(logprobs: Any, rows: Any, loss: Any = loss, calls: list[int] = calls) -> Any:
            calls.append(1)
            value = loss(logprobs, rows)
            return value + (logprobs[0] - logprobs[0].detach()).abs().sum().sqrt() if len(calls) == 1 else value

        learner.loss = overflow
        host.open("t", learner)
        if beside:
            opened(host, "other", replace(CONFIGS["lora"], per_device_train_batch_size=1))
        results = host.run(dict.fromkeys(host.trial_ids, "round"))
        assert math.isnan(results["t"].loss) or math.isnan(results["t"].metrics["grad_norm"])
        assert results["t"].metrics["steps"] == 0
        host.shut()


def test_a_fault_leaves_nothing_behind_for_who_asks_next() -> None:
    host = Host(BASE, SHAPE)
    broken = CONFIGS["lora"].build(BASE, TASK, 0)
    broken.loss = lambda logprobs, rows: logprobs[99]
    host.open("broken", broken)
    opened(host, "good", CONFIGS["lora"])
    opened(host, "other", CONFIGS["wide"])  # takes more steps than what the good one has left
    with pytest.raises(IndexError):
        host.run({"broken": "round", "good": "round"})
    assert host.run({"other": "round"}).keys() == {"other"}


def test_what_the_base_makes_of_a_row_does_not_depend_on_what_else_was_asked() -> None:
    """DPO's references are kept for all trials."""
    rows = [Row(tuple(range(2, 5 + i)), (False,) * 2 + (True,) * (1 + i)) for i in range(12)]
    host = Host(BASE, SHAPE)
    together = host.logprobs(rows)
    for row, wanted in zip(rows, together, strict=True):
        assert torch.equal(host.logprobs([row])[0], wanted)


def test_out_of_memory_halves_the_batch_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator refuses more than three rows at a time, in training and in decoding: both rounds still end."""
    wanted = alone(CONFIGS["lora"], rounds=1)
    host = Host(BASE, SHAPE)
    for number in range(3):
        opened(host, f"t{number}", CONFIGS["lora"])
    forward = host.stack.run

    def short_of_memory(lanes: torch.Tensor, *args: Any, **inputs: Any) -> Any:
        if len(lanes) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(lanes, *args, **inputs)

    monkeypatch.setattr(host.stack, "run", short_of_memory)
    monkeypatch.setattr("trainables.packed.decoding.MIN_LANES", 1)
    metrics = host.run(dict.fromkeys(host.trial_ids, "round"))
    assert all(one.loss == pytest.approx(wanted.losses[0], rel=1e-5) for one in metrics.values())
    assert all(one.metrics["memory_halvings"] in (1, 2, 3) for one in metrics.values()), "the trials say so"
    for name, value in host.values("t1").items():
        torch.testing.assert_close(value, wanted.values[0][name], rtol=1e-3, atol=1e-6)
    scores = host.run(dict.fromkeys(host.trial_ids, "evaluate"))
    assert all([*one.completions] == wanted.said[0]["completions"] for one in scores.values())


def test_what_the_base_is_asked_by_itself_goes_on_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The untouched base comes first in a sweep, before anything has found out how many rows fit."""
    prompts = [[5, 6, 7]] * 9 + [[8, 9]]

    def asking() -> Queries:
        said = yield Complete(prompts, 4)
        read = yield Read(ROWS)
        return judged(tokens=[one.tokens for one in said], read=read)

    learner = scripted(Adapter(r=2), evaluation=asking)
    plenty, host = Host(BASE, SHAPE), Host(BASE, replace(SHAPE, decode_lanes=1024))
    wanted, read = plenty.evaluate_untouched(learner), plenty.logprobs(ROWS * 3)
    forward = host.stack.run

    def short_of_memory(lanes: torch.Tensor, *args: Any, **inputs: Any) -> Any:
        if inputs["attention_mask"].shape[0] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(lanes, *args, **inputs)

    monkeypatch.setattr(host.stack, "run", short_of_memory)
    monkeypatch.setattr("trainables.packed.decoding.MIN_LANES", 1)
    monkeypatch.setattr(host.executor, "blocks", False)
    found = host.evaluate_untouched(learner)
    assert found.metrics["tokens"] == wanted.metrics["tokens"]
    for got, expected in zip(found.metrics["read"], wanted.metrics["read"], strict=True):
        assert got == pytest.approx(expected, abs=1e-5)
    again = Host(BASE, SHAPE)
    monkeypatch.setattr(again.stack, "run", short_of_memory)
    for got, expected in zip(again.logprobs(ROWS * 3), read, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_a_loss_that_finds_no_memory_is_no_fault_of_its_trial() -> None:
    wanted = alone(CONFIGS["lora"], rounds=1)
    host, calls = Host(BASE, SHAPE), []
    learner = CONFIGS["lora"].build(BASE, TASK, 0)
    loss = learner.loss

    def short_of_memory(logprobs: Any, rows: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss(logprobs, rows)

    learner.loss = short_of_memory
    host.open("t", learner)
    assert host.round("t").loss == wanted.losses[0]
    assert same(host.values("t"), wanted.values[0])


class FailsAt(TorchFunctionMode):
    """Memory runs out in the n-th of torch's operations inside."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return func(*args, **(kwargs or {}))


def test_a_step_that_runs_out_of_memory_anywhere_is_taken_again_as_if_nothing_had_been() -> None:
    """One of two seats has an infinite gradient, which must not pass for a healthy one of zeros the second time."""

    def trained(failing: int) -> tuple[Any, bool]:
        host, bad = Host(BASE, SHAPE), CONFIGS["wide"].build(BASE, TASK, 0)
        loss = bad.loss
        bad.loss = lambda logprobs, rows: loss(logprobs, rows) + (logprobs[0] - logprobs[0].detach()).abs().sum().sqrt()
        host.open("bad", bad)
        host.open("t", replace(CONFIGS["both"], per_device_train_batch_size=2).build(BASE, TASK, 0))
        modes, step = [FailsAt(failing)], host.optimizer.step

        def short_of_memory(*args: Any) -> None:
            with modes.pop() if modes else nullcontext():
                step(*args)

        host.optimizer.step = short_of_memory  # type: ignore[method-assign]
        mode = modes[0]
        found = host.run(dict.fromkeys(host.trials, "round"))
        assert found["bad"].metrics["steps"] == 0
        assert math.isnan(found["bad"].loss)
        return (found["t"].loss, found["t"].metrics["grad_norm"], host.values("t"), host.values("bad")), mode.left <= 0

    wanted, _ = trained(0)
    failing = 0
    while (result := trained(failing := failing + 1))[1]:
        found = result[0]
        assert found[:2] == wanted[:2], failing
        assert same(found[2], wanted[2]), failing
        assert same(found[3], wanted[3]), failing
    assert failing > 20, "it must have failed in many places"


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


def test_dropout_beside_a_module_that_sees_rows_and_tokens_as_one() -> None:
    """A shared expert does. One trial's dropout on it must not end everybody's batch."""
    sizes = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "num_experts": 4}
    experts = Qwen2MoeConfig(**COMMON, **DECODER, **sizes, num_key_value_heads=2, num_experts_per_tok=2)
    model = AutoModelForCausalLM.from_config(experts).requires_grad_(False).eval()
    host = Host(Base("mini-moe", model, BASE.tokenizer), SHAPE)
    for name, rate in (("plain", 0.0), ("drops", 0.1)):
        host.open(name, scripted(Adapter(r=4, target_modules=("gate_proj", "down_proj"), lora_dropout=rate)))
    losses = {name: one.loss for name, one in ended(host, "plain", "drops").items()}
    assert all(math.isfinite(loss) for loss in losses.values())
