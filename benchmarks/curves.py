"""Recorded sweeps: what every configuration of a task scored after each round. `search.py` replays them.

A folder holds a parquet file for each task, with a row for each configuration, of one of two kinds:

- losses: a column of numbers for each axis, `valid` with the loss on held-out data after each round (nats), `test_last`
  with the loss on test data at the end (not read). The score is 1 - loss / (2 ln 2), between 0 and 1: half for a coin.
- answers: as `record.py` writes them.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from search_spaces.space import Space, SpaceError
from sweeps.results.rungs import first_rung

COIN, HALF = 2 * math.log(2), 0.5  # nats; a loss of ln 2, that of a coin, becomes a score of one half
NOT_AXES = ("valid", "test_last")
FORMAT = "espalier-curves-1"  # of files with answers


class BadCurves(ValueError):
    """A folder or a file that is no recording; the message is one line with the value and the remedy."""


@dataclass(frozen=True)
class Curves:
    """All recorded configurations of one task: C configurations, R rounds, A axes, Q questions.

    Rounds count from 1; round r is column r - 1. `lasted` is the round in which training diverged, or R.
    """

    name: str
    space: Space
    params: Sequence[Mapping[str, Any]]  # the axes' values of each configuration
    expected: np.ndarray  # (C, R) the mean of the score that a sweep sees, in [0, 1]; 0 once the training diverged
    true: np.ndarray  # (C, R) the score by which a pick is judged
    lasted: np.ndarray  # (C,) rounds
    diverged: np.ndarray  # (C,) bool
    cost: np.ndarray  # (C, R) the cost of each round: rows, seconds, or 1; 0 once the training diverged
    asked: int  # questions in each round
    chance: float  # the score of a guess
    answers: np.ndarray | None = None  # (C, R, Q) the recorded score of each question

    @property
    def rounds(self) -> int:
        return self.expected.shape[1]

    @property
    def grace(self) -> int:
        """The rounds before a trial may be stopped: a sweep's default."""
        return first_rung(self.rounds)

    def __len__(self) -> int:
        return len(self.params)

    @cached_property
    def full_cost(self) -> float:
        """The mean cost of a full training."""
        return float(self.cost.sum(1).mean())

    @cached_property
    def places(self) -> np.ndarray:
        """(C, A): where each configuration lies on each axis, see `place`."""
        return np.array([self.place(params) for params in self.params])

    def place(self, params: Mapping[str, Any]) -> np.ndarray:
        """(A,): the place of each value on its axis: in [0, 1], or a choice's number; NaN where it has no value."""
        return np.array([_place(self.space.axes[name], params.get(name)) for name in self.space.axes])

    def distances(self, params: Mapping[str, Any]) -> np.ndarray:
        """(C,): the squared distance of each configuration. Other choices are 1 apart; axes without a value are 0."""
        choices = np.array([isinstance(one, CategoricalDistribution) for one in self.space.axes.values()])
        apart = self.places - self.place(params)
        apart = np.where(choices, np.sign(np.abs(apart)), apart)
        return np.nansum(apart**2, axis=1)

    def draw(self, chosen: np.ndarray, columns: Sequence[int], rng: np.random.Generator) -> np.ndarray:
        """Draw the scores that sweeps see in some rounds. `chosen`: (repetitions, n) configurations.

        Returns (repetitions, n, rounds).

        A repetition of recorded answers is asked as many questions as were recorded, drawn with replacement, and all of
        its configurations and rounds are asked the same. Without answers they are drawn: right with the expected score.
        """
        if self.answers is None:
            return rng.binomial(self.asked, self.expected[chosen[:, :, None], columns]) / self.asked
        counts = rng.multinomial(self.asked, np.full(self.asked, 1 / self.asked), size=len(chosen))
        answers = self.answers[:, columns]
        return np.stack([answers[own] @ count for own, count in zip(chosen, counts, strict=True)]) / self.asked


class Seen:
    """The scores that one repetition sees, drawn on first use; every method sees the same."""

    def __init__(self, curves: Curves, repetition: int) -> None:
        self._curves, self._seed = curves, (zlib.crc32(curves.name.encode()), repetition)
        self._rows: dict[int, np.ndarray] = {}

    def scores(self, configuration: int) -> np.ndarray:
        """(R,): the score of each round."""
        if configuration not in self._rows:
            of_answers = self._curves.answers is not None  # the same questions for all configurations
            rng = np.random.default_rng(self._seed if of_answers else (*self._seed, configuration))
            every = range(self._curves.rounds)
            self._rows[configuration] = self._curves.draw(np.array([[configuration]]), every, rng)[0, 0]
        return self._rows[configuration]


def read_folder(folder: Path, asked: int, cost: str) -> list[Curves]:
    """Read all recordings of a folder, by name. `asked`: the questions of a round, where losses are recorded; `cost`:
    rows or seconds, of recorded answers.

    Raise BadCurves for a folder without any, and for a file that is none.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise BadCurves(f"{folder} has no recorded curves (*.parquet); record some with benchmarks/record.py")
    return [read(file, asked, cost) for file in files]


def read(file: Path, asked: int, cost: str) -> Curves:
    """Read one recording. Raise BadCurves."""
    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise BadCurves(f"{file} is not a parquet file: {str(error).splitlines()[0]}") from error
    if FORMAT.encode() in (table.schema.metadata or {}):
        return _of_answers(file, table, cost)
    return _of_losses(file, table, asked)


def _of_losses(file: Path, table: pyarrow.Table, asked: int) -> Curves:
    if missing := [name for name in NOT_AXES if name not in table.column_names]:
        raise BadCurves(f"{file} has no column {missing[0]!r}; the module's docstring says what a recording has")
    axes = {name: table[name].to_numpy() for name in table.column_names if name not in NOT_AXES}
    for name, values in axes.items():
        if values.dtype.kind not in "fi" or not np.isfinite(values).all():
            raise BadCurves(f"{file}: axis {name!r} has values that are no numbers; give each configuration one")
    losses = _matrix(file, table, "valid")
    finite = np.isfinite(losses)
    diverged = ~finite.all(1)
    lasted = np.where(diverged, np.argmin(finite, axis=1) + 1, losses.shape[1])
    alive = np.arange(losses.shape[1]) < (lasted - diverged)[:, None]
    expected = np.where(alive, np.clip(1 - np.where(alive, losses, 0) / COIN, 0, 1), 0.0)
    cost = np.where(np.arange(losses.shape[1]) < lasted[:, None], 1.0, 0.0)
    space = Space({name: _axis(values) for name, values in axes.items()})
    params = [{name: float(values[i]) for name, values in axes.items()} for i in range(table.num_rows)]
    name = file.stem.removeprefix("taskset_")
    return Curves(name, _checked(file, space), params, expected, expected, lasted, diverged, cost, asked, HALF)


def _of_answers(file: Path, table: pyarrow.Table, cost: str) -> Curves:
    try:
        facts = json.loads(table.schema.metadata[FORMAT.encode()])
        space = Space.from_dict(facts["space"])
        rounds, questions, chance = facts["rounds"], facts["questions"], facts["chance"]
        answers = _matrix(file, table, "answers").reshape(len(table), rounds, questions)
        test, trained, seconds = (_matrix(file, table, name) for name in ("test", "rows", "seconds"))
    except (KeyError, ValueError, SpaceError) as error:
        told = error if isinstance(error, BadCurves) else f"{file} is damaged ({error}); record it again"
        raise BadCurves(str(told)) from error
    lasted, diverged = table["lasted"].to_numpy(), table["diverged"].to_numpy(zero_copy_only=False)
    rounds_of = np.arange(rounds)
    alive = rounds_of < (lasted - diverged)[:, None]
    answers = np.where(alive[:, :, None], answers, 0.0)
    expected = answers.mean(2)
    # The test questions were asked at the end only. What a round lacks to the end, the search's questions say.
    true = np.where(alive, np.clip(test.mean(1)[:, None] + expected - expected[:, -1:], 0, 1), 0.0)
    spent = seconds if cost == "seconds" else trained + questions
    spent = np.where(rounds_of < lasted[:, None], spent, 0.0)
    params = [json.loads(text) for text in table["params"].to_pylist()]
    own = _checked(file, space)
    return Curves(file.stem, own, params, expected, true, lasted, diverged, spent, questions, chance, answers)


def _matrix(file: Path, table: pyarrow.Table, name: str) -> np.ndarray:
    """Return a column of lists of equal length as (C, length)."""
    column = table[name].combine_chunks()
    if not pyarrow.types.is_list(column.type):
        raise BadCurves(f"{file}: column {name!r} has {column.type} in place of lists of numbers; record it again")
    lengths = set(pyarrow.compute.list_value_length(column).to_pylist())
    if len(lengths) != 1 or not lengths - {0, None}:
        told = f"lists of {name!r} are not equally long, but {sorted(map(str, lengths))[:3]}"
        raise BadCurves(f"{file}: {told}; record as many rounds of each configuration")
    return column.flatten().to_numpy(zero_copy_only=False).astype(float).reshape(len(table), -1)


def _checked(file: Path, space: Space) -> Space:
    if all(one.single() for one in space.axes.values()):
        raise BadCurves(f"{file}: no axis has two values, so there is nothing to search; record other configurations")
    return space


def _axis(values: np.ndarray) -> BaseDistribution:
    """Return an axis of random numbers: on a log scale if their median is nearer to the middle of that."""
    low, middle, high = (float(one) for one in np.quantile(values, (0, 0.5, 1)))
    if not 0 < low < high:
        return FloatDistribution(low, high)
    linear, log = (middle - low) / (high - low), math.log(middle / low) / math.log(high / low)
    return FloatDistribution(low, high, log=abs(log - 0.5) < abs(linear - 0.5))


def _place(axis: BaseDistribution, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(axis, CategoricalDistribution):
        return axis.to_internal_repr(value)
    low, high, at = axis.low, axis.high, value  # type: ignore[attr-defined]
    if axis.log:  # type: ignore[attr-defined]
        low, high, at = math.log(low), math.log(high), math.log(value)
    return (at - low) / (high - low) if high > low else 0.0
