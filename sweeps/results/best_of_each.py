"""The best finalist of each base, and of each learner on the best base, in a sweep of several bases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sweeps.results.confirmation import Confirmation
from sweeps.results.records import Final


@dataclass(frozen=True)
class BestOfEach:
    """Trained finalists, the best first: one for each base, and one for each learner on the base of the best."""

    bases: list[Final]
    learners: list[Final]


def best_of_each(known: Confirmation) -> BestOfEach:
    """Return none in a sweep of one base."""
    trained = [one for one in known.finals if one.base and not one.is_untouched]
    bases = _first_of_each(trained, lambda one: one.base)
    on_best = [one for one in trained if one.base == bases[0].base]
    return BestOfEach(bases, _first_of_each(on_best, lambda one: one.learner))


def _first_of_each(finals: Iterable[Final], key: Callable[[Final], str]) -> list[Final]:
    found: dict[str, Final] = {}
    for one in finals:
        found.setdefault(key(one), one)
    return [*found.values()]
