"""Answers the queries of a language learner (`core.Queries`): by a host, or by a trial with its own model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainables.core import Complete, Queries, Read
from trainables.models.loading import Base
from trainables.training.sequence_packing import check_packed_rows


def check_query(ask: Complete | Read, virtual: int, base: Base) -> None:
    """Whether a base can answer, after so many virtual tokens. Raises ValueError in one line."""
    if isinstance(ask, Read):
        base.readable([row.tokens for row in ask.rows], virtual)
        check_packed_rows(ask.rows, virtual, base)
    else:
        base.readable(ask.prompts, virtual + ask.max_new_tokens)


def run_queries(asking: Queries, answer: Callable[[Complete | Read], Any]) -> Any:
    """Answer everything that is asked for; what is returned in the end."""
    reply = None
    while True:
        try:
            ask = asking.send(reply)
        except StopIteration as end:
            return end.value
        reply = answer(ask)
