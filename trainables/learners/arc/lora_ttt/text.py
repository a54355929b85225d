"""How grids of an ARC task become tokens and back: one function writes rows and prompts, as short as can be.

`I`, a grid (a row of digits per line), `O`, its output: a demonstration; `I`, a grid, `O`: the question. Letters as in
Franzen et al. 2024.
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
    shown = "".join(f"I\n{grid_text(a)}\nO\n{grid_text(b)}\n" for a, b in pairs)
    return f"{shown}I\n{grid_text(source)}\nO"


def most_tokens(shape: Sequence[int]) -> int:
    """Of a grid in any turn, under any tokenizer: a token per character, a line end per row."""
    return prod(shape) + max(shape)


class Scribe:
    """Writes rows and prompts of at most `limit` tokens for a base's tokenizer."""

    def __init__(self, tokenizer: Any, limit: int) -> None:
        self._tokenizer, self.limit = tokenizer, limit
        self._frame = len(encode_prompt(tokenizer, written((), np.zeros((1, 1), dtype=np.int8))))

    def room(self, seen: Puzzle) -> int:
        """Tokens of the longest answer that is thought of, and its ends: as large as any grid that is seen, or as the
        lenses that fit say that a test output is."""
        shapes = [grid.shape for pair in seen.demonstrations for grid in pair]
        shapes += [grid.shape for grid in seen.test_inputs]
        shapes += [shape for sizes in hypotheses(seen) for shape in sizes]
        return 2 + max(map(most_tokens, shapes))

    def fits(self, seen: Puzzle) -> bool:
        """Whether each of its questions fits alone, in any turn, with room for its answer."""
        sources = [*(source for source, _ in seen.demonstrations), *seen.test_inputs]
        return self._frame + max(most_tokens(source.shape) for source in sources) + self.room(seen) <= self.limit

    def prompt(self, pairs: Pairs, source: Grid, room: int) -> list[int]:
        """Token ids that leave `room` tokens for the answer: without the last demonstrations where they are many."""
        for shown in range(len(pairs), 0, -1):
            tokens = encode_prompt(self._tokenizer, written(pairs[:shown], source))
            if len(tokens) + room <= self.limit:
                return tokens
        return encode_prompt(self._tokenizer, written((), source))

    def row(self, pairs: Pairs, source: Grid, target: Grid) -> Row:
        """Only the target's tokens and the end token are labels; as many demonstrations as the limit allows."""
        for shown in range(len(pairs), -1, -1):
            row = encode_reply(self._tokenizer, [("user", written(pairs[:shown], source))], grid_text(target))
            if len(row.tokens) <= self.limit:
                break
        return row

    def read(self, tokens: Sequence[int]) -> Grid | None:
        """The grid of a completion; None where it is not one."""
        attempts = parse_completion(decode(self._tokenizer, list(tokens)), 1)
        return attempts[0][0] if attempts and attempts[0][0].size else None
