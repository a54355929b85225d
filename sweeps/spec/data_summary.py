"""What is said of a pair's data before anything is trained on it, and what trivial strategies score on it."""

from __future__ import annotations

from trainables.core import Pair


def data_of(pair: Pair) -> list[str]:
    """The task's own lines, where it has some, with tokens as the base counts them, or words where there is none."""
    if not pair.learner.needs_base:
        return pair.task.describe(lambda text: len(text.split()))
    from trainables.models.loading import tokenizer

    own = tokenizer(pair.base)
    return pair.task.describe(lambda text: len(own(text, add_special_tokens=False).input_ids))
