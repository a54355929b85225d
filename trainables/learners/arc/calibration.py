"""How often the first attempt is right, by how sure the learner was: by what gave it, or by how many votes agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from trainables.core import Example, Task

AGREEMENT = {"sure": 0.9, "likely": 0.5, "unsure": 0.0}  # the least share of votes for the first attempt


def level_of(agreement: float) -> str:
    """Return how sure an attempt is that has this share of the votes."""
    return next(name for name, least in AGREEMENT.items() if agreement >= least)


def calibration(
    task: Task, examples: Sequence[Example], completions: Sequence[str], levels: Mapping[str, str]
) -> dict[str, float]:
    """Return `share.<level>`, the share of all ARC tasks that were answered so, and `pass_at_1.<level>`, the share of
    these whose first attempt is right. `levels` are by key; tasks without one have no answer."""
    right: dict[str, list[float]] = defaultdict(list)
    for example, completion in zip(examples, completions, strict=True):
        if example.key in levels:
            right[levels[example.key]].append(task.details(example, completion)["pass_at_1"])
    shares = {f"share.{level}": len(own) / len(examples) for level, own in right.items()}
    return shares | {f"pass_at_1.{level}": sum(own) / len(own) for level, own in right.items()}
