"""Read a prompt once for its whole group of completions: rows with equal trunks become branches of one row.

A joined row has the trunk, and behind it the branches of all its members (`core.Row.branches`); its loss and gradients
are those of the members by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.core import Row
from trainables.models.loading import Base
from trainables.training.packing_plan import window_of
from trainables.training.sequence_packing import keeps_apart


@dataclass
class Group:
    """Rows that are read as one: their places among all rows, and what they are joined into."""

    members: list[int]
    row: Row


@dataclass
class _Open:
    """A group to which members may still be added. `tokens`: its length so far."""

    members: list[int] = field(default_factory=list)
    tokens: int = 0


def grouped(rows: Sequence[Row], read: Iterable[int], base: Base, virtual: int) -> list[Group]:
    """Join rows with equal trunks, in the order of their first members, of the rows at the places `read`.

    A row joins a group if that takes less computing than a row of its own: attention looks at every pair of a row's
    tokens, so a trunk that is short beside its branches is read again. Nothing is joined behind `virtual` tokens, on a
    base that does not keep branches apart, or beyond the window that a base attends to.
    """
    joins = not virtual and any(row.branches for row in rows) and keeps_apart(base)
    window = window_of(base.model.config) if joins else 0

    def cost(tokens: int) -> int:
        """The multiplications of a row of so many tokens, in `hidden_size` for each layer: 24 H^2 T + 4 H T^2."""
        return tokens * (6 * base.hidden_size + tokens)

    found: list[_Open] = []
    latest: dict[tuple[int, ...], _Open] = {}  # trunk -> the group that was begun last
    for place in read:
        row = rows[place]
        if not (joins and row.branches and len(row.tokens) <= window):
            found.append(_Open([place], len(row.tokens)))
            continue
        trunk = row.tokens[: row.branches[0]]
        more, own = len(row.tokens) - len(trunk), latest.get(trunk)
        if own is None or cost(own.tokens + more) - cost(own.tokens) >= cost(len(row.tokens)):
            own = latest[trunk] = _Open(tokens=len(trunk))
            found.append(own)
        own.members.append(place)
        own.tokens += more
    return [Group(own.members, joined_branches([rows[i] for i in own.members])) for own in found]


def joined_branches(rows: Sequence[Row]) -> Row:
    """Join rows of one branch each, whose trunks are equal, into one row of several branches."""
    if len(rows) == 1:
        return rows[0]
    (start,) = rows[0].branches
    tokens, labels, branches = list(rows[0].tokens[:start]), list(rows[0].labels[:start]), []
    for row in rows:
        branches.append(len(tokens))
        tokens += row.tokens[start:]
        labels += row.labels[start:]
    return Row(tuple(tokens), tuple(labels), branches=tuple(branches))


def of_members(measured: Sequence[Any], groups: Sequence[Group], rows: Sequence[Row]) -> list[Any]:
    """Return what was measured of each row's labels, from what was measured of the labels of each group.

    It is a tensor or a list for each; a row that is in no group, of which there are none with lists, gets zeros.
    """
    found: dict[int, Any] = {}
    for own, values in zip(groups, measured, strict=True):
        first = 0
        for place in own.members:
            last = first + sum(rows[place].labels)
            found[place] = values[first:last]
            first = last
    return [found[i] if i in found else measured[0].new_zeros(sum(row.labels)) for i, row in enumerate(rows)]
