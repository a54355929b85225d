"""Check and answer the queries of a language learner (`core.Queries`); a host answers those of many learners itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainables.core import Complete, Queries, Read
from trainables.models.loading import Base
from trainables.training.sequence_packing import check_packed_rows


def check_query(query: Complete | Read, virtual: int, base: Base) -> None:
    """Raise ValueError if a base cannot answer a query behind `virtual` virtual tokens."""
    if isinstance(query, Read):
        base.check_tokens([row.tokens for row in query.rows], virtual)
        check_packed_rows(query.rows, virtual, base)
    else:
        base.check_tokens(query.prompts, virtual + query.max_new_tokens)


def run_queries(queries: Queries, answer: Callable[[Complete | Read], Any]) -> Any:
    """Answer every query by `answer`, and return what the generator returns."""
    reply = None
    while True:
        try:
            query = queries.send(reply)
        except StopIteration as end:
            return end.value
        reply = answer(query)
