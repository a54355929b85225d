"""Rationales sifted: what concludes right is kept, and weights undo what the sifting does to the labels.

Keeping only samples whose conclusion is right is rejection sampling (STaR, Zelikman et al. 2022, without its hints,
which would put the answer into the prompt). It keeps more of the answer that a model prefers to give: a data set that
was balanced is no longer, and what is trained on it learns to say the common answer. So each row weighs
share of its answer among all questions / share of its answer among the kept rows: with weights the shares are those of
all questions again, and the mean weight is 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainables.core import Example
from trainables.tasks.strategyqa.task import with_answer
from trainables.training.label_weights import label_factors

LEAD = re.compile(r"\bSo,?\s+the\s+answer\s+is\s+\Z", re.IGNORECASE)
MENTION = re.compile(r"\banswer\s+is\b", re.IGNORECASE)


class Found(Protocol):
    """What a task's parser finds in a completion: the answer, and where it begins."""

    @property
    def answer(self) -> str: ...

    @property
    def start(self) -> int: ...


@dataclass(frozen=True)
class Sample:
    """The reasoning, in one line and without its last sentence, and the answer that the last sentence names."""

    rationale: str
    answer: str

    @property
    def completion(self) -> str:
        return with_answer(self.rationale, self.answer)


def read(text: str, said: Callable[[str], Found | None]) -> Sample | None:
    """None unless the text reasons and then ends with "So the answer is ...", without naming an answer before that.

    What a reasoning model thinks aloud, up to `</think>`, does not count.
    """
    text = text.rpartition("</think>")[2]
    found = said(text)
    lead = LEAD.search(text[: found.start]) if found else None
    if found is None or lead is None:
        return None
    rationale = " ".join(text[: lead.start()].split())
    return None if not rationale or MENTION.search(rationale) else Sample(rationale, found.answer)


@dataclass
class Sieve:
    """The first right and the first wrong sample of each question of `examples`, as they come in."""

    examples: Sequence[Example]
    said: Callable[[str], Found | None]
    right: dict[str, Sample] = field(default_factory=dict)  # by key
    wrong: dict[str, Sample] = field(default_factory=dict)

    def add(self, example: Example, text: str) -> None:
        """Take one sample of a question; what cannot be read is dropped."""
        if sample := read(text, self.said):
            place = self.right if sample.answer == example.answer else self.wrong
            place.setdefault(example.key, sample)

    def wants(self, example: Example, pairs: bool) -> bool:
        """Whether another sample of this question could add anything: a right one, and for pairs a wrong one too."""
        return example.key not in self.right or (pairs and example.key not in self.wrong)

    def rows(self, source: str) -> list[dict[str, Any]]:
        """A row per question that has a right sample, in order. Raises ValueError if an answer is lost."""
        kept, weight = self._kept(), self.weights()
        return [
            {"key": e.key, "rationale": self.right[e.key].rationale, "answer": e.answer, "weight": weight[e.answer]}
            | {"source": source}
            for e in kept
        ]

    def weights(self) -> dict[str, float]:
        """By answer. Raises ValueError if one is lost."""
        kept = self._kept()
        return label_factors(self.examples, kept, [1.0] * len(kept))

    def _kept(self) -> list[Example]:
        return [example for example in self.examples if example.key in self.right]

    def pairs(self) -> list[dict[str, str]]:
        """Preferences, for the questions that have both: the right completion is `chosen`, the wrong one `rejected`."""
        both = [example.key for example in self.examples if example.key in self.right.keys() & self.wrong.keys()]
        return [
            {"key": key, "chosen": self.right[key].completion, "rejected": self.wrong[key].completion} for key in both
        ]

    def counts(self) -> Mapping[str, Counter[str]]:
        """Answer -> questions that are `kept`, or have only `wrong` samples that can be read, or only `unparsed`."""
        found: dict[str, Counter[str]] = {answer: Counter() for answer in sorted({e.answer for e in self.examples})}
        for e in self.examples:
            fate = "kept" if e.key in self.right else "wrong" if e.key in self.wrong else "unparsed"
            found[e.answer][fate] += 1
        return found
