"""Choose documents that share a row: best-fit decreasing, as TRL's `bfd` (Ding et al. 2024, arXiv 2404.10830).

The longest go first, each into the fullest row that has room for it, and no document is cut. The rows then go to a
host as `Row(tokens, labels, starts)`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Any

from trainables.core import Row


def pack(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Group documents of these lengths (tokens), by index, into rows of at most `max_length` tokens.

    Raise ValueError for a document that is longer than a row, or empty.
    """
    for place, length in enumerate(lengths):
        if not 0 < length <= max_length:
            raise ValueError(
                f"document {place} has {length} tokens, and a row holds 1 to {max_length}: shorten it, drop it, or"
                " raise max_length"
            )
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, number of the bin), rising
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        best = bisect.bisect_left(rooms, (lengths[place], 0))
        if best == len(rooms):
            rooms.append((max_length, len(bins)))
            bins.append([])
        left, number = rooms.pop(best)
        bins[number].append(place)
        if left > lengths[place]:
            bisect.insort(rooms, (left - lengths[place], number))
    return bins


def joined(rows: Sequence[Row]) -> Row:
    """Join documents into one row, in which no document attends to another."""
    *starts, _ = itertools.accumulate(len(row.tokens) for row in rows)
    return Row(
        tuple(token for row in rows for token in row.tokens),
        tuple(label for row in rows for label in row.labels),
        tuple(starts),
    )


def window_of(config: Any) -> float:
    """Return the largest number of tokens to which every layer attends; infinite without a window."""
    text = config.get_text_config()
    sizes = (getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((size for size in sizes if size), default=math.inf)
