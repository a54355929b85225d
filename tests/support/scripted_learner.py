"""A language learner with a script: equal rows at every step, and one evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from trainables.core import Adapter, Complete, Evaluation, Queries, Row
from trainables.optimizer import Optimizer

PROMPTS = [[5, 6, 7], [5, 6, 7, 8, 9, 10, 11], [12], [*range(5, 19)]]  # of two padded widths
ROWS = [Row((*p, 20, 21, 1), (False,) * len(p) + (True,) * 3) for p in PROMPTS]


def completing(prompts: Sequence[Sequence[int]] = PROMPTS) -> Queries:
    """An evaluation that has prompts completed, and keeps all that was said."""
    said = yield Complete(prompts, 8)
    return judged(**{name: [getattr(one, name) for one in said] for name in ("tokens", "ended", "logprobs")})


def judged(**metrics: Any) -> Evaluation:
    """An evaluation without a score."""
    return Evaluation(0.0, [], metrics=metrics)


def nothing() -> Queries:
    yield from ()


def scripted(
    adapter: Adapter,
    rows: Sequence[Row] = ROWS,
    evaluation: Callable[[], Queries] = completing,
    watch_updates: bool = False,
    steps: int = 1,
) -> SimpleNamespace:
    """It trains on `rows` with the mean negative log-likelihood."""
    return SimpleNamespace(
        adapter=adapter,
        optimizer=Optimizer(1e-2),
        rows_per_batch=len(rows),
        steps_per_round=steps,
        watch_updates=watch_updates,
        temperature=1.0,
        prepare=nothing,
        prepare_step=nothing,
        next_rows=lambda: list(rows),
        weight=lambda rows: sum(sum(row.labels) for row in rows),
        loss=lambda logprobs, rows: -sum(own.sum() for own in logprobs) / sum(len(own) for own in logprobs),
        evaluate=lambda split: evaluation(),
        state=dict,
        load=lambda state: None,
    )
