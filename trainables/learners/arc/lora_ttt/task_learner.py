"""One ARC task as a `LanguageLearner`: leave-one-out training rows, prompts under several views, and answers.

It reads a `Puzzle`, which holds no test outputs, so none can enter a row, a size or a choice.
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
from trainables.learners.arc.lora_ttt.text import GridTokenizer, most_tokens
from trainables.tasks.arc.grids import COLOURS, Grid
from trainables.tasks.arc.task import Puzzle
from trainables.tasks.arc.views import TURNS, View, draw_view


class TaskLearner:
    """Trains one adapter, in one seat of a host, on rows of one ARC task, and answers that task's test inputs.

    Row k depends on the seed and on k alone, so a resumed run gets the same rows. The supervised stage gives several
    puzzles; such a learner only trains and is never evaluated.
    """

    watch_updates, temperature = False, 1.0

    def __init__(
        self, config: LoraTttHyperparameters, tokenizer: GridTokenizer, puzzles: Sequence[Puzzle], seed: int, steps: int
    ) -> None:
        self.adapter, self.optimizer = config.adapter(), config.optimizer()
        self.rows_per_batch, self.steps_per_round = config.per_device_train_batch_size, steps
        self.answer_tokens = max(map(tokenizer.answer_tokens, puzzles))  # of the longest answer
        self.seed = seed
        self._config, self._tokenizer, self.puzzles = config, tokenizer, puzzles
        self._renamed = np.arange(COLOURS if config.permute_colours else 0)
        self.views = self._drawn_views()
        self._draws = 0  # rows so far

    @property
    def length(self) -> int:
        """The cells of the longest row, about its tokens; seats of similar length share batches."""
        return max(sum(grid.size for pair in own.demonstrations for grid in pair) for own in self.puzzles)

    def prepare(self) -> Queries:
        yield from ()

    def prepare_step(self) -> Queries:
        yield from ()

    def next_rows(self) -> list[Row]:
        first, self._draws = self._draws, self._draws + self.rows_per_batch
        return [self.row(k) for k in range(first, self._draws)]

    def weight(self, rows: Sequence[Row]) -> float:
        return sum(sum(row.labels) for row in rows)

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Return the mean negative log-likelihood per label token of the micro-batch, in nats."""
        return -sum(row.sum() for row in logprobs) / sum(len(row) for row in logprobs)

    def evaluate(self, split: Split) -> Queries:
        """Return `attempts`, the two best grids for each test input; `split` has no effect. There is no score."""
        attempts = []
        for test, grids in enumerate(self.found((yield Complete(self.prompts(), self.answer_tokens)))):
            attempts.append((yield from self.chosen(test, grids)))
        return Evaluation(math.nan, [], metrics={"attempts": attempts})

    def chosen(self, test: int, found: Sequence[Grid | None]) -> Queries:
        """Return the two best of the grids that the views gave for a test input, by votes or by log-probability."""
        grids, scores = counted(found)
        if self._config.selection == "logprob" and len(grids) > 1:
            views, rows = self._config.votes, [row for grid in grids for row in self.candidate_rows(test, grid)]
            sums = [sum(own) for own in (yield Read(rows))]
            scores = [sum(sums[i : i + views]) for i in range(0, len(sums), views)]
        return two_best(grids, scores)

    def prompts(self) -> list[list[int]]:
        """Return the prompts: view by view, every test input."""
        return [
            self._tokenizer.prompt(shown.demonstrations, source, self.answer_tokens)
            for shown in self._shown
            for source in shown.test_inputs
        ]

    def found(self, completions: Sequence[Completion]) -> list[list[Grid | None]]:
        """Return for each test input the grid of each view, turned back.

        None stands for a completion that did not end, is no grid, or is too large to be written in every turn.
        """
        grids = [self._tokenizer.read(one.tokens) if one.ended else None for one in completions]
        small = [
            grid if grid is not None and 2 + most_tokens(grid.shape) <= self.answer_tokens else None for grid in grids
        ]
        count = len(self.puzzles[0].test_inputs)
        return [
            [None if grid is None else view.undo(grid) for view, grid in zip(self.views, small[i::count], strict=True)]
            for i in range(count)
        ]

    def candidate_rows(self, test: int, grid: Grid) -> list[Row]:
        """Return rows that answer a test input with this grid, one for each view."""
        return [
            self._tokenizer.row(shown.demonstrations, shown.test_inputs[test], view.apply(grid))
            for view, shown in zip(self.views, self._shown, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        return {"draws": self._draws}

    def load(self, state: dict[str, Any]) -> None:
        self._draws = state["draws"]

    def row(self, k: int) -> Row:
        """Return row k: one demonstration as the question, after the others, all under one random view."""
        rng = np.random.default_rng((self.seed, k))
        puzzle = self.puzzles[int(rng.integers(len(self.puzzles)))]
        pairs = draw_view(rng, self._renamed, self._config.turns).of(puzzle).demonstrations
        held_out, *others = rng.permutation(len(pairs)).tolist()
        shown = others if self._config.permute_order else sorted(others)
        return self._tokenizer.row([pairs[i] for i in shown], *pairs[held_out])

    def _drawn_views(self) -> list[View]:
        """Draw the views. The first is the task as it is; each turn comes once before any comes again."""
        rng = np.random.default_rng(seed_of("views", self.seed))
        turns = [i % TURNS if self._config.turns else 0 for i in range(self._config.votes)]
        drawn = [replace(draw_view(rng, self._renamed, turns=False), turn=turn) for turn in turns]
        return [View(), *drawn[1:]]

    @cached_property
    def _shown(self) -> list[Puzzle]:
        """The task under each view; under all but the first, demonstrations are in a random order."""
        rng = np.random.default_rng(seed_of("orders", self.seed))
        shown = []
        for index, view in enumerate(self.views):
            puzzle = view.of(self.puzzles[0])
            order = rng.permutation(len(puzzle.demonstrations)).tolist()
            if index and self._config.permute_order:
                puzzle = replace(puzzle, demonstrations=tuple(puzzle.demonstrations[i] for i in order))
            shown.append(puzzle)
        return shown
