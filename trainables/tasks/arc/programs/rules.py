"""Rules: how the planes that a search found become answers.

A rule reads the cells of one or two planes at a place, and the demonstrations say what each combination becomes. A rule
holds if no combination ever became two colours. It answers a test if it has seen all of the test's combinations. A
plane that is the output itself is the simplest rule, then one whose colours are renamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.search import VALUES, Program

MOST_PLANES = 200  # of which pairs are tried; the cheapest ones
SAMPLE = 300  # cells on which pairs are tried first
UNKNOWN = -1


class Candidate(NamedTuple):
    """Answers to all tests; `cost` is low for what is simple, and so more often right."""

    cost: float
    name: str
    answers: tuple[Grid, ...]


class Cells:
    """The planes of a task as matrices: (planes, cells), all demonstrations in one row, and a matrix for each test."""

    def __init__(self, programs: Sequence[Program], targets: Sequence[Grid]) -> None:
        many = len(targets)
        self.programs = programs
        self.shown = np.array([_flat(program.grids[:many]) for program in programs], dtype=np.int64)
        self.wanted = _flat(targets).astype(np.int64)
        self.task = np.concatenate([np.full(target.size, i) for i, target in enumerate(targets)])
        self.tests = [program.grids[many:] for program in programs]


def _flat(grids: Sequence[Grid]) -> np.ndarray:
    return np.concatenate([grid.ravel() for grid in grids])


def single(cells: Cells, sources: tuple[Grid, ...], targets: Sequence[Grid]) -> Iterator[Candidate]:
    """Yield answers of planes alone, and of planes beside the input if it is as large as the output."""
    base = _beside(sources, targets)
    for index, program in enumerate(cells.programs):
        plane = cells.shown[index]
        if (plane == cells.wanted).all():
            yield Candidate(program.cost, " > ".join(program.names), cells.tests[index])
            continue
        answer = learned(plane, cells, [grid.astype(np.int64) for grid in cells.tests[index]])
        if answer:
            yield answer._replace(cost=answer.cost + program.cost + 0.5, name=" > ".join((*program.names, "renamed")))
        elif base is not None:
            shown, tests = base
            both = [
                grid * VALUES + own if grid.shape == own.shape else np.full(grid.shape, UNKNOWN, np.int64)
                for grid, own in zip(cells.tests[index], tests, strict=True)
            ]
            answer = learned(plane * VALUES + shown, cells, both)
            if answer:
                yield answer._replace(
                    cost=answer.cost + program.cost + 1, name=" > ".join((*program.names, "beside the input"))
                )


def _beside(sources: tuple[Grid, ...], targets: Sequence[Grid]) -> tuple[np.ndarray, list[np.ndarray]] | None:
    many = len(targets)
    if any(source.shape != target.shape for source, target in zip(sources, targets, strict=False)):
        return None
    return _flat(sources[:many]).astype(np.int64), [source.astype(np.int64) for source in sources[many:]]


def learned(codes: np.ndarray, cells: Cells, tests: Sequence[np.ndarray]) -> Candidate | None:
    """Return the answers of the table from codes to outputs. None if it is no function or does not know a code.

    The cost is a fraction of the table's entries, more for each that only one demonstration shows.
    """
    kinds, place = np.unique(codes, return_inverse=True)
    table = np.zeros(len(kinds), dtype=np.int64)
    table[place] = cells.wanted
    if (table[place] != cells.wanted).any():
        return None
    answers = []
    for test in tests:
        where = np.minimum(np.searchsorted(kinds, test), len(kinds) - 1)
        if (kinds[where] != test).any():
            return None
        answers.append(table[where].astype(np.int8))
    many = cells.task[-1] + 1
    shown = np.unique(place * many + cells.task) // many
    rare = int((np.bincount(shown, minlength=len(kinds)) == 1).sum()) if many > 1 else 0
    return Candidate(0.1 * len(kinds) + 0.2 * rare, "", tuple(answers))


def pairs(cells: Cells, most: int = 100) -> Iterator[Candidate]:
    """Yield answers of rules that read two planes, the cheaper ones first."""
    chosen = np.array([p for p in range(len(cells.programs)) if cells.programs[p].cost <= 2][:MOST_PLANES], dtype=int)
    if not len(chosen):
        return
    step = max(1, len(cells.wanted) // SAMPLE)
    sample, wanted = cells.shown[chosen][:, ::step], cells.wanted[::step]
    coded = sample * VALUES + wanted + np.arange(len(chosen))[:, None] * VALUES**3
    found: list[tuple[int, int, int]] = []
    for i in range(len(chosen) - 1):
        later = coded[i + 1 :] - (i + 1) * VALUES**3 + sample[i] * VALUES**2
        marks = np.zeros((len(later), VALUES**2, VALUES), dtype=bool)
        marks.ravel()[later] = True
        holds = (marks.sum(2) <= 1).all(1)
        for j in i + 1 + np.flatnonzero(holds):
            a, b = int(chosen[i]), int(chosen[j])
            found.append((cells.programs[a].cost + cells.programs[b].cost, a, b))
    for cost, a, b in sorted(found)[:most]:
        one, other = (cells.tests[k] for k in (a, b))
        if any(x.shape != y.shape for x, y in zip(one, other, strict=True)):
            continue
        tests = [x.astype(np.int64) * VALUES + y for x, y in zip(one, other, strict=True)]
        answer = learned(cells.shown[a] * VALUES + cells.shown[b], cells, tests)
        if answer:
            names = (" > ".join(cells.programs[k].names) or "input" for k in (a, b))
            yield answer._replace(cost=answer.cost + cost + 1, name=" and ".join(names))
