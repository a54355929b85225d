"""What all whole sweeps of this folder have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def two_seeds_are_enough() -> Iterator[None]:
    """Finalists of sweeps in this process end after their second seed. Each further stage starts processes anew, and
    takes ten times as long as the trainings of a miniature. `test_decide.py` goes on from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.tuning.confirmation.FIRST_BUDGET", 1.0)
        yield
