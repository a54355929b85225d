"""Turn grids of an ARC task into tokens and back.

The format is as short as possible, with the letters of Franzen et al. 2024. A demonstration is `I`, the input, `O`, the
output; the question is `I`, the input, `O`. A grid is a line of digits for each of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from trainables.core import Row
from trainables.learners.arc.canvas import hypotheses
from trainables.models.tokenization import decode, encode_prompt, encode_reply
from trainables.tasks.arc.grids import Grid, grid_text, parse_completion
from trainables.tasks.arc.task import Puzzle

Pairs = Sequence[tuple[Grid, Grid]]


def written(pairs: Pairs, source: Grid) -> str:
    """Return the text of a question after these demonstrations."""
    shown = "".join(f"I\n{grid_text(a)}\nO\n{grid_text(b)}\n" for a, b in pairs)
    return f"{shown}I\n{grid_text(source)}\nO"


def most_tokens(shape: Sequence[int]) -> int:
    """Return the most tokens that a grid takes, in any turn, under any tokenizer: one per cell and line end."""
    return prod(shape) + max(shape)


class GridTokenizer:
    """Writes training rows and prompts of at most `limit` tokens with a base's tokenizer, and reads completions."""

    def __init__(self, tokenizer: Any, limit: int) -> None:
        self._tokenizer, self.limit = tokenizer, limit
        self._frame = len(encode_prompt(tokenizer, written((), np.zeros((1, 1), dtype=np.int8))))

    def answer_tokens(self, puzzle: Puzzle) -> int:
        """Return the tokens to reserve for an answer, its begin and end included.

        An answer may be as large as any grid of the puzzle, or as the size that a fitting lens predicts.
        """
        shapes = [grid.shape for pair in puzzle.demonstrations for grid in pair]
        shapes += [grid.shape for grid in puzzle.test_inputs]
        shapes += [shape for sizes in hypotheses(puzzle) for shape in sizes]
        return 2 + max(map(most_tokens, shapes))

    def fits(self, puzzle: Puzzle) -> bool:
        """Whether each question fits without demonstrations, in any turn, together with its answer."""
        sources = [*(source for source, _ in puzzle.demonstrations), *puzzle.test_inputs]
        question = self._frame + max(most_tokens(source.shape) for source in sources)
        return question + self.answer_tokens(puzzle) <= self.limit

    def prompt(self, pairs: Pairs, source: Grid, answer_tokens: int) -> list[int]:
        """Return the token ids of a prompt with as many demonstrations as leave `answer_tokens` for the answer."""
        for shown in range(len(pairs), 0, -1):
            tokens = encode_prompt(self._tokenizer, written(pairs[:shown], source))
            if len(tokens) + answer_tokens <= self.limit:
                return tokens
        return encode_prompt(self._tokenizer, written((), source))

    def row(self, pairs: Pairs, source: Grid, target: Grid) -> Row:
        """Return a training row with as many demonstrations as fit; its labels are the target and the end token."""
        for shown in range(len(pairs), -1, -1):
            row = encode_reply(self._tokenizer, [("user", written(pairs[:shown], source))], grid_text(target))
            if len(row.tokens) <= self.limit:
                break
        return row

    def read(self, tokens: Sequence[int]) -> Grid | None:
        """Return the grid of a completion; None if it is not one."""
        attempts = parse_completion(decode(self._tokenizer, list(tokens)), 1)
        return attempts[0][0] if attempts and attempts[0][0].size else None
