"""What earlier looks at the test split have used up, in a sweep whose search went on after its finalists.

Each look claims a winner with an error rate of 5 %, if it sees questions and seeds that no look before it has seen. A
look at the same questions has what is left of those 5 % (Bonferroni: the rates of all looks at them add up).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.results.comparison import LEVEL
from sweeps.results.confirmation import Confirmation
from trainables.core import Task


@dataclass(frozen=True)
class EarlierLooks:
    """`count` looks were before. The next one leaves out the first `questions` of the test split, and so many `seeds`.
    If it asks `again` what the last one asked, `rate` of the error rate is spent."""

    count: int = 0
    questions: int = 0
    seeds: int = 0
    rate: float = 0.0
    again: bool = False


def after(looks: Sequence[Confirmation], task: Task) -> EarlierLooks:
    """Return what these looks, the first one first, leave for the next. `task` is as the first look had it."""
    used, size = EarlierLooks(), len(task.test())
    for count, known in enumerate(looks, start=1):
        questions = used.questions + max((one.scores.shape[1] for one in known.finals), default=0)
        if len(task.test_up_to(questions + size)) >= questions + size:
            seeds = used.seeds + max((len(one.scores) for one in known.finals), default=0)
            used = EarlierLooks(count, questions, seeds)
        else:
            used = EarlierLooks(count, used.questions, used.seeds, min(LEVEL, used.rate + known.rate_spent), again=True)
    return used
