"""Open a pair's learner in this process. Imports no torch at module level."""

from __future__ import annotations

from trainables.core import Learner, Pair
from trainables.packed.specs import Shape


def open_in_process(pair: Pair, seed: int, trial_id: str = "solo", shape: Shape | None = None) -> Learner:
    """Build a pair's learner; one that could share its base gets a host of its own, with the given shape."""
    if not pair.learner.needs_base:
        return pair.learner.build(None, pair.task, seed)  # type: ignore[return-value]
    from trainables.models.loading import load
    from trainables.packed.solo import Solo

    base = load(pair.base)
    learner = pair.learner.build(base, pair.task, seed)
    return learner if isinstance(learner, Learner) else Solo(base, learner, seed, trial_id, shape)
