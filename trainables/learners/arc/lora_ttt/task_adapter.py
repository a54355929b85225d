"""One ARC task as a `LanguageLearner`: leave-one-out rows to train on, its prompts under several views, its answers.

It sees a `Puzzle`, so no test output can reach a row, a size or a choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from trainables.core import Complete, Completion, Evaluation, Queries, Read, Row, Split
from trainables.learners.arc.answers import counted, seed_of, two_best
from trainables.learners.arc.lora_ttt.hyperparameters import LoraTttHyperparameters
from trainables.learners.arc.lora_ttt.text import Scribe, most_tokens
from trainables.tasks.arc.grids import COLOURS, Grid
from trainables.tasks.arc.task import Puzzle
from trainables.tasks.arc.views import TURNS, View, draw_view


class Pupil:
    """What a host trains in one seat: rows of these puzzles; prompts and answers of the only one of them.

    Row k depends on the seed and k alone, so a resumed run gets the same rows. Rows of one seat may be of several
    puzzles: that is the shared stage, which is never asked.
    """

    watch_updates = False

    def __init__(
        self, config: LoraTttHyperparameters, scribe: Scribe, puzzles: Sequence[Puzzle], seed: int, steps: int
    ) -> None:
        self.adapter, self.optimizer = config.adapter(), config.optimizer()
        self.rows_per_batch, self.steps_per_round = config.per_device_train_batch_size, steps
        self.room = max(map(scribe.room, puzzles))  # tokens of an answer
        self.seed = seed
        self._config, self._scribe, self.puzzles = config, scribe, puzzles
        self._renamed = np.arange(COLOURS if config.permute_colours else 0)
        self.views = self._drawn_views()
        self._draws = 0  # rows so far

    @property
    def length(self) -> int:
        """About as many tokens as its longest row: seats of like lengths share batches."""
        return max(sum(grid.size for pair in seen.demonstrations for grid in pair) for seen in self.puzzles)

    def prepare(self) -> Queries:
        yield from ()

    def next_rows(self) -> list[Row]:
        first, self._draws = self._draws, self._draws + self.rows_per_batch
        return [self._row(k) for k in range(first, self._draws)]

    def weight(self, rows: Sequence[Row]) -> float:
        return sum(sum(row.labels) for row in rows)

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Mean negative log-likelihood per label token of the micro-batch, in nats."""
        return -sum(row.sum() for row in logprobs) / sum(len(row) for row in logprobs)

    def evaluate(self, split: Split) -> Queries:
        """Return `attempts`, the two best grids for each test input, on whatever split. It cannot score them."""
        attempts = []
        for test, grids in enumerate(self.found((yield Complete(self.prompts(), self.room)))):
            attempts.append((yield from self.chosen(test, grids)))
        return Evaluation(math.nan, [], metrics={"attempts": attempts})

    def chosen(self, test: int, found: Sequence[Grid | None]) -> Queries:
        """Of what the views found for a test input, the two best: by votes, or by their probability under all views."""
        grids, scores = counted(found)
        if self._config.selection == "logprob" and len(grids) > 1:
            views, rows = self._config.votes, [row for grid in grids for row in self.candidate_rows(test, grid)]
            sums = [sum(own) for own in (yield Read(rows))]
            scores = [sum(sums[i : i + views]) for i in range(0, len(sums), views)]
        return two_best(grids, scores)

    def prompts(self) -> list[list[int]]:
        """Every test input under every view."""
        return [
            self._scribe.prompt(shown.demonstrations, source, self.room)
            for shown in self._shown
            for source in shown.test_inputs
        ]

    def found(self, completions: Sequence[Completion]) -> list[list[Grid | None]]:
        """Per test input the grid of each view, turned back; None where it did not end or is none, or could not be
        written in every turn."""
        grids = [self._scribe.read(said.tokens) if said.ended else None for said in completions]
        small = [grid if grid is not None and 2 + most_tokens(grid.shape) <= self.room else None for grid in grids]
        count = len(self.puzzles[0].test_inputs)
        return [
            [None if grid is None else view.undo(grid) for view, grid in zip(self.views, small[i::count], strict=True)]
            for i in range(count)
        ]

    def candidate_rows(self, test: int, grid: Grid) -> list[Row]:
        """A candidate for a test input, as the answer under every view."""
        return [
            self._scribe.row(shown.demonstrations, shown.test_inputs[test], view.apply(grid))
            for view, shown in zip(self.views, self._shown, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        return {"draws": self._draws}

    def load(self, state: dict[str, Any]) -> None:
        self._draws = state["draws"]

    def _row(self, k: int) -> Row:
        """A demonstration as the question, the others before it, all under one random view."""
        rng = np.random.default_rng((self.seed, k))
        seen = self.puzzles[int(rng.integers(len(self.puzzles)))]
        pairs = draw_view(rng, self._renamed, self._config.turns).of(seen).demonstrations
        held_out, *others = rng.permutation(len(pairs)).tolist()
        shown = others if self._config.permute_order else sorted(others)
        return self._scribe.row([pairs[i] for i in shown], *pairs[held_out])

    def _drawn_views(self) -> list[View]:
        """The first is the task as it is; each turn comes once before any comes again."""
        rng = np.random.default_rng(seed_of("views", self.seed))
        turns = [i % TURNS if self._config.turns else 0 for i in range(self._config.votes)]
        drawn = [replace(draw_view(rng, self._renamed, turns=False), turn=turn) for turn in turns]
        return [View(), *drawn[1:]]

    @cached_property
    def _shown(self) -> list[Puzzle]:
        """The task under each view; all but the first in another order."""
        rng = np.random.default_rng(seed_of("orders", self.seed))
        shown = []
        for index, view in enumerate(self.views):
            seen = view.of(self.puzzles[0])
            order = rng.permutation(len(seen.demonstrations)).tolist()
            if index and self._config.permute_order:
                seen = replace(seen, demonstrations=tuple(seen.demonstrations[i] for i in order))
            shown.append(seen)
        return shown
