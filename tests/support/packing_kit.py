"""Shared by the tests of packed seats: configurations of every kind, and the trajectory of a trial by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.support.miniatures import base
from tests.support.toys import Letters
from trainables.core import Evaluation
from trainables.learners.lm.grpo import GrpoConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import Base
from trainables.packed.host import Host
from trainables.packed.specs import Shape

SHAPE = Shape(seats=4, lanes=8, decode_lanes=16, max_rank=8, max_prompt=6)
TASK = Letters(size=12)
BASE = base("qwen2")
IN_BFLOAT16 = base("qwen2", torch.bfloat16)
QUICK: dict[str, Any] = {"steps_per_round": 2, "learning_rate": 1e-2}
CONFIGS = {
    "lora": LoraConfig(**QUICK, r=4, per_device_train_batch_size=4, lora_dropout=0.2, weight_decay=0.1),
    "wide": LoraConfig(**QUICK, r=8, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_grad_norm=0.3),
    "all modules": LoraConfig(**QUICK, r=2, target_modules=("q_proj", "o_proj", "gate_proj", "down_proj")),
    "more rows than lanes": LoraConfig(**QUICK, r=3, per_device_train_batch_size=11),
    "prompt": SoftPromptConfig(**QUICK, num_virtual_tokens=5, mode="online", replay_ratio=1),
    "both": HybridConfig(
        **QUICK, r=4, num_virtual_tokens=3, lr_scheduler_type="cosine", warmup_steps=2, schedule_rounds=3
    ),
    # Hardly any of its completions is right: the penalty makes rewards differ.
    "grpo": GrpoConfig(
        **QUICK,
        r=4,
        per_device_train_batch_size=6,
        gradient_accumulation_steps=2,
        num_generations=4,
        num_iterations=2,
        temperature=1.3,
        top_p=0.95,
        beta=0.1,
        length_penalty=1.0,
    ),
}
WILD = {
    "learning rate 1e3": LoraConfig(steps_per_round=2, r=8, learning_rate=1e3, weight_decay=0.5),
    "wild prompt": SoftPromptConfig(steps_per_round=2, learning_rate=1e6, num_virtual_tokens=6),
}


@dataclass
class Trial:
    """A trial's trajectory: after each round its parameters, loss, and what it says, to the last bit."""

    values: list[dict[str, torch.Tensor]]
    losses: list[float]
    said: list[dict[str, Any]]


def said(evaluation: Evaluation) -> dict[str, Any]:
    """Completions, scores, and a number that all log-probabilities of what was said go into."""
    return {name: evaluation.flat()[name] for name in ("completions", "items", "calibration_error")}


def opened(host: Host, trial_id: str, config: Any, seed: int = 0) -> None:
    host.open(trial_id, config.build(host.base, TASK, seed), seed)


def ended(host: Host, *trial_ids: str) -> dict[str, Any]:
    """A round of these trials, together: metrics, or the fault that ended one, by trial id."""
    for trial_id in trial_ids:
        host.start(trial_id, "round")
    results: dict[str, Any] = {}
    while host.busy:
        results |= host.tick()
    return results


def nan(host: Host, trial_id: str) -> None:
    """Make everything that a trial trains NaN."""
    seat = host.trials[trial_id]
    for name in seat.made.values:
        seat.tensor(name, None).fill_(math.nan)


def alone(config: Any, rounds: int, seed: int = 0, on: Base = BASE) -> Trial:
    """The trial by itself in a host of the same shape."""
    host, trial = Host(on, SHAPE), Trial([], [], [])
    opened(host, "t", config, seed)
    for _ in range(rounds):
        trial.losses.append(host.round("t").loss)
        trial.values.append(host.values("t"))
        trial.said.append(said(host.evaluate("t")))
    host.shut()
    return trial


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


BATCHES = ("as this machine is", "always full")  # the latter as where matrix products depend on the size of the batch


@contextmanager
def in_batches(kind: str) -> Iterator[None]:
    """Compute in batches of this kind, one of `BATCHES`."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == BATCHES[1]:
            patch.setattr("trainables.packed.executor.rows_are_independent", lambda stack: False)
        yield


BESIDE: dict[str, list[str]] = {
    "nobody": [],
    "everybody": ["both", "lora", "more rows than lanes"],
    "wild": [*WILD],
    "NaN": ["wide", "prompt"],
}


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_bit_identical(wanted: Trial, config: Any, beside: str, on: Base = BASE) -> None:
    """A trial in a host beside others gives the losses, weights and answers that it gives alone."""
    host = Host(on, SHAPE)
    if beside != "nobody":  # so that the trial gets another seat than alone
        opened(host, "first", WILD["learning rate 1e3"])
    opened(host, "t", config)
    if beside == "everybody":
        host.close("first")
    for other in BESIDE[beside]:
        opened(host, other, (CONFIGS | WILD)[other], seed=7)
        if beside == "NaN":
            nan(host, other)
    for number in range(2):
        metrics = host.run(dict.fromkeys(host.trial_ids, "round"))
        assert metrics["t"].loss == wanted.losses[number]
        assert same(host.values("t"), wanted.values[number])
        scored = host.run(dict.fromkeys(host.trial_ids, "evaluate"))
        assert said(scored["t"]) == wanted.said[number]
        if beside == "NaN":
            assert all(math.isnan(metrics[other].loss) for other in BESIDE["NaN"])
    host.shut()
