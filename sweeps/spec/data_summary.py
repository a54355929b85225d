"""Lines about a task's data that are printed before anything is trained on it."""

from __future__ import annotations

import functools
from typing import Any

from trainables.core import Pair


def data_of(pair: Pair) -> list[str]:
    """Return the task's own lines about its data.

    They measure texts in tokens of the base, or in words where the pair has no base.
    """

    @functools.cache
    def tokenizer() -> Any:  # loaded for tasks that measure something
        from trainables.models.loading import tokenizer as load

        return load(pair.base)

    def count_tokens(text: str) -> int:
        if not pair.learner.needs_base:
            return len(text.split())
        return len(tokenizer()(text, add_special_tokens=False).input_ids)

    return pair.task.describe(count_tokens)
