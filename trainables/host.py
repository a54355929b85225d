"""A host owns a base, the adapters on it and their optimizers; callers know trial ids, never what lies behind them.

This host has one seat. A learner says what to train on and how log-probabilities become a loss (`LanguageLearner`); the
host runs the frozen base, steps AdamW and generates. Plain Python and torch: it works without Ray.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from trainables.bases import Base
from trainables.core import LanguageLearner, Optimizer, Row, Split
from trainables.decoding import generate, label_logprobs
from trainables.seat import SeatAdapter


class HostFull(RuntimeError):
    """Every seat is taken."""


class Host:
    """`open`, then `round` and `evaluate` as often as wanted, `state`/`load` at a round's end, `close`. Idempotent."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._seats: dict[str, _Seat] = {}

    def open(self, trial_id: str, learner: LanguageLearner, seed: int = 0) -> None:
        """Give a trial a fresh adapter. A trial that is already here starts again (a restarted process may reopen).

        Raises HostFull when another trial holds the seat.
        """
        self.close(trial_id)
        if self._seats:
            raise HostFull(f"trial {trial_id!r}: the seat is held by {next(iter(self._seats))!r}; close it first")
        self._seats[trial_id] = _Seat(self.base, learner, seed)

    def round(self, trial_id: str) -> dict[str, Any]:
        """Train `steps_per_round` optimizer steps. Metrics: `loss` (mean, nats per label token; NaN at divergence),
        `grad_norm` (before clipping, mean), `steps` so far, `trainable_parameters`, `tokens_per_second`."""
        return self._seats[trial_id].round()

    def evaluate(self, trial_id: str, split: Split = "search") -> dict[str, Any]:
        """Greedy completions of every prompt of the split, judged by the learner; metrics with `score`."""
        return self._seats[trial_id].evaluate(split)

    def evaluate_untouched(self, learner: LanguageLearner, split: Split = "search") -> dict[str, Any]:
        """What the base scores by itself, under the same prompts and the same scorer. Needs a free seat.

        Raises HostFull while a trial's adapter is on the base.
        """
        if self._seats:
            raise HostFull(f"the untouched base is hidden by {next(iter(self._seats))!r}; close it first")
        completions, ended = generate(self.base, learner.prompts(split), learner.max_new_tokens, None)
        return learner.judge(split, completions, ended)

    def state(self, trial_id: str) -> dict[str, Any]:
        """All that is needed to go on: adapter, moments, step, place in the data. Tensors on the CPU."""
        return self._seats[trial_id].state()

    def load(self, trial_id: str, state: dict[str, Any]) -> None:
        self._seats[trial_id].load(state)

    def prompt(self, trial_id: str) -> torch.Tensor | None:
        """A trial's soft prompt, (num_virtual_tokens, hidden_size), or None."""
        return self._seats[trial_id].adapter.prompt

    def save(self, trial_id: str, folder: str) -> None:
        """Write the adapter in PEFT's format (see `SeatAdapter.save`)."""
        self._seats[trial_id].adapter.save(folder)

    def close(self, trial_id: str) -> None:
        """Free the seat; unknown ids are fine."""
        seat = self._seats.pop(trial_id, None)
        if seat:
            seat.adapter.close()


class Seated:
    """A language learner in a host, seen as a `Learner`: what a trial drives."""

    def __init__(self, host: Host, trial_id: str, learner: LanguageLearner, seed: int) -> None:
        self._host, self._id = host, trial_id
        host.open(trial_id, learner, seed)

    @property
    def prompt(self) -> torch.Tensor | None:
        """The soft prompt, (num_virtual_tokens, hidden_size), if the adapter has one."""
        return self._host.prompt(self._id)

    def round(self) -> dict[str, Any]:
        return self._host.round(self._id)

    def evaluate(self, split: Split = "search") -> dict[str, Any]:
        return self._host.evaluate(self._id, split)

    def state(self) -> dict[str, Any]:
        return self._host.state(self._id)

    def load(self, state: dict[str, Any]) -> None:
        self._host.load(self._id, state)

    def save(self, folder: str) -> None:
        self._host.save(self._id, folder)

    def close(self) -> None:
        self._host.close(self._id)


class _Seat:
    """One trial's adapter, optimizer and learner."""

    def __init__(self, base: Base, learner: LanguageLearner, seed: int) -> None:
        self.base, self.learner, self.seed = base, learner, seed
        self.adapter = SeatAdapter(base, learner.adapter, seed)
        self.parameters = self.adapter.parameters()
        self.optimizer = _adamw(self.parameters, learner.optimizer)
        self.step = 0

    def round(self) -> dict[str, Any]:
        losses: list[float] = []
        norms: list[float] = []
        tokens, start = 0, time.perf_counter()
        watched: dict[str, list[float]] = {"correct_before_update": [], "correct_after_update": []}
        for _ in range(self.learner.steps_per_round):
            loss, norm, rows = self._update(watched if self.learner.watch_updates else None)
            losses.append(loss)
            norms.append(norm)
            tokens += sum(len(row.tokens) for row in rows)
            if not math.isfinite(loss) or not math.isfinite(norm):
                losses = [math.nan]
                break
        return {
            "loss": sum(losses) / len(losses),
            "grad_norm": sum(norms) / len(norms),
            "steps": self.step,
            "trainable_parameters": sum(p.numel() for p in self.parameters.values()),
            "tokens_per_second": tokens / (time.perf_counter() - start),
            **{name: sum(values) / len(values) for name, values in watched.items() if values},
        }

    def evaluate(self, split: Split) -> dict[str, Any]:
        completions, ended = self._generate(self.learner.prompts(split), self.learner.max_new_tokens)
        return self.learner.judge(split, completions, ended)

    def state(self) -> dict[str, Any]:
        return {
            "parameters": {name: p.detach().cpu().clone() for name, p in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "learner": self.learner.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.learner.load(state["learner"])

    def _update(self, watched: dict[str, list[float]] | None) -> tuple[float, float, list[Row]]:
        """One optimizer step -> (mean loss, gradient norm before clipping, rows); not taken if it is not finite."""
        settings = self.learner.optimizer
        rows: list[Row] = []
        losses = []
        self.optimizer.zero_grad(set_to_none=True)
        with torch.random.fork_rng():  # dropout masks depend on the trial's seed and step, not on what ran before
            torch.manual_seed(self.seed * 1_000_003 + self.step)
            self.adapter.dropout(True)
            for _ in range(settings.gradient_accumulation_steps):
                micro = self.learner.next_rows()
                loss = self.learner.loss(label_logprobs(self.base, micro, self.adapter.prompt), micro)
                (loss / settings.gradient_accumulation_steps).backward()
                losses.append(loss.item())
                rows += micro
            self.adapter.dropout(False)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), settings.max_grad_norm).item()
        if watched is not None:
            watched["correct_before_update"].append(self._correct(rows))
        if math.isfinite(sum(losses)) and math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak_lr"] * schedule(settings, self.step)
            self.optimizer.step()
            self.step += 1
        if watched is not None:
            watched["correct_after_update"].append(self._correct(rows))
        return sum(losses) / len(losses), norm, rows

    def _correct(self, rows: list[Row]) -> float:
        """The share of rows whose labels are exactly what the model now generates."""
        starts = [row.labels.index(True) for row in rows]
        prompts = [list(row.tokens[:start]) for row, start in zip(rows, starts, strict=True)]
        longest = max(len(row.tokens) - start for row, start in zip(rows, starts, strict=True))
        completions, _ = self._generate(prompts, longest)
        targets = [list(row.tokens[start:-1]) for row, start in zip(rows, starts, strict=True)]
        return sum(a == b for a, b in zip(completions, targets, strict=True)) / len(rows)

    def _generate(self, prompts: list[list[int]], max_new_tokens: int) -> tuple[list[list[int]], list[bool]]:
        return generate(self.base, prompts, max_new_tokens, self.adapter.prompt)


def schedule(settings: Optimizer, step: int) -> float:
    """The learning rate's factor in [0, 1] at an optimizer step (from 0): linear warm-up, then the schedule."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.lr_scheduler_type == "constant":
        return 1.0
    span = max(1, settings.total_steps - settings.warmup_steps)
    progress = min(1.0, (step - settings.warmup_steps) / span)
    return 1.0 - progress if settings.lr_scheduler_type == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def _adamw(parameters: dict[str, torch.nn.Parameter], settings: Optimizer) -> torch.optim.AdamW:
    prompt_lr = settings.prompt_learning_rate
    rates = {"prompt": settings.learning_rate if prompt_lr is None else prompt_lr}
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(rates.get(name, settings.learning_rate), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": group, "lr": lr, "peak_lr": lr} for lr, group in groups.items()],
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
