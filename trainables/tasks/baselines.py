"""Scores of trivial strategies, of tasks whose examples have one listed answer each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from trainables.core import Example, Task

TRIED, ASKED = 5, 100  # the best constant is the best of so many common answers of a kind, by so many questions of it


def trivial_scores(
    task: Task, copied: Callable[[Example], str], constants: Sequence[str] | None = None
) -> dict[str, float]:
    """Return the mean scores of `constant`, `majority` and `copy` on the search split, and `constant.<kind>`.

    `constant` gives the commonest answer of train to everything, `majority` the commonest of each kind,
    `constant.<kind>` is the score of `majority` on that kind, and `copy` says what `copied` takes from the question.
    With `constants`, `best_constant` gives to each kind what scores best on train, of these and the commonest answers:
    a scorer may reward an answer that is seldom right.
    """
    train, search = task.train(), task.search()
    overall = commonest(train)
    kinds = {kind: [e for e in train if e.kind == kind] or train for kind in {e.kind for e in search}}
    own = {kind: commonest(examples) for kind, examples in kinds.items()}
    guesses: dict[str, Callable[[Example], str]] = {
        "constant": lambda example: overall,
        "majority": lambda example: own[example.kind],
        "copy": copied,
    }
    if constants is not None:
        best = {kind: _best_constant(task, examples, constants) for kind, examples in kinds.items()}
        guesses["best_constant"] = lambda example: best[example.kind]
    found: dict[str, list[float]] = {}
    for example in search:
        known: dict[str, float] = {}  # a score may take long
        for name, guess in guesses.items():
            text = guess(example)
            if text not in known:
                known[text] = task.score(example, text)
            found.setdefault(name, []).append(known[text])
        found.setdefault(f"constant.{example.kind}", []).append(known[own[example.kind]])
    return {name: sum(values) / len(values) for name, values in found.items()}


def commonest(examples: Sequence[Example]) -> str:
    """Return the answer that most examples have; of several the first."""
    return Counter(example.answer for example in examples).most_common(1)[0][0]


def _best_constant(task: Task, examples: Sequence[Example], constants: Sequence[str]) -> str:
    """Return the answer with the highest total score on the first examples; of several the commonest."""
    common = [answer for answer, _ in Counter(example.answer for example in examples).most_common(TRIED)]
    asked = examples[:ASKED]
    return max(dict.fromkeys([*common, *constants]), key=lambda one: sum(task.score(e, one) for e in asked))
