"""What is said of a pair's data before anything is trained on it, and what trivial strategies score on it."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.core import Pair


def data_of(pair: Pair) -> list[str]:
    """The task's own lines, where it has some, with tokens as the base counts them, or words where there is none."""
    describe = getattr(pair.task, "describe", None)
    if describe is None:
        return []
    if not pair.learner.needs_base:
        return describe(lambda text: len(text.split()))
    from trainables.bases import tokenizer

    own = tokenizer(pair.base)
    return describe(lambda text: len(own(text, add_special_tokens=False).input_ids))


def baselines_of(pair: Pair) -> Mapping[str, float]:
    """The task's, or the learner's own where its score is another than the task's."""
    own = getattr(pair.learner, "baselines", None)
    return pair.task.baselines() if own is None else own(pair.task)
