"""Rejection sampling of rationales: keep those that conclude with the right answer, and weight them.

This is STaR (Zelikman et al. 2022) without its hints, which would put the answer into the prompt. Rejection keeps more
rationales for the answer that a model prefers to give. A balanced data set becomes unbalanced, and a model trained on
it learns to give the common answer. So a row's weight is the share of its answer among all questions divided by the
share of its answer among the kept rows. The weighted shares equal those of all questions, and the mean weight is 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.core import Example, ParsedAnswer
from trainables.tasks.strategyqa.task import with_answer
from trainables.training.label_weights import label_factors

LEAD = re.compile(r"\bSo,?\s+the\s+answer\s+is\s+\Z", re.IGNORECASE)
MENTION = re.compile(r"\banswer\s+is\b", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """A completion in two parts: the reasoning, in one line, and the answer that its last sentence named."""

    rationale: str
    answer: str

    @property
    def completion(self) -> str:
        return with_answer(self.rationale, self.answer)


def read(text: str, said: Callable[[str], ParsedAnswer | None]) -> Sample | None:
    """Parse a completion. Return None unless it reasons and ends with "So the answer is ...", the only answer in it.

    The thoughts of a reasoning model, up to `</think>`, are ignored.
    """
    text = text.rpartition("</think>")[2]
    found = said(text)
    lead = LEAD.search(text[: found.start]) if found else None
    if found is None or lead is None:
        return None
    rationale = " ".join(text[: lead.start()].split())
    return None if not rationale or MENTION.search(rationale) else Sample(rationale, found.answer)


@dataclass
class RationaleFilter:
    """Keeps the first right and the first wrong sample of each question in `examples`."""

    examples: Sequence[Example]
    said: Callable[[str], ParsedAnswer | None]
    right: dict[str, Sample] = field(default_factory=dict)  # by key
    wrong: dict[str, Sample] = field(default_factory=dict)

    def add(self, example: Example, text: str) -> None:
        """Add one sample of a question, unless it cannot be parsed."""
        if sample := read(text, self.said):
            place = self.right if sample.answer == example.answer else self.wrong
            place.setdefault(example.key, sample)

    def wants(self, example: Example, pairs: bool) -> bool:
        """Return whether the question still needs a right sample or, for pairs, a wrong one."""
        return example.key not in self.right or (pairs and example.key not in self.wrong)

    def rows(self, source: str) -> list[dict[str, Any]]:
        """Return a row per question with a right sample, in order. Raise ValueError if an answer has no rationale."""
        kept, weight = self._kept(), self.weights()
        return [
            {"key": e.key, "rationale": self.right[e.key].rationale, "answer": e.answer, "weight": weight[e.answer]}
            | {"source": source}
            for e in kept
        ]

    def weights(self) -> dict[str, float]:
        """Return answer -> weight of its rows. Raise ValueError if an answer has no rationale."""
        kept = self._kept()
        return label_factors(self.examples, kept, [1.0] * len(kept))

    def _kept(self) -> list[Example]:
        return [example for example in self.examples if example.key in self.right]

    def pairs(self) -> list[dict[str, str]]:
        """Return a preference for each question with both samples: right is `chosen`, wrong is `rejected`."""
        both = [example.key for example in self.examples if example.key in self.right.keys() & self.wrong.keys()]
        return [
            {"key": key, "chosen": self.right[key].completion, "rejected": self.wrong[key].completion} for key in both
        ]

    def counts(self) -> Mapping[str, Counter[str]]:
        """Return answer -> number of questions that are `kept`, have only `wrong` samples, or only `unparsed` ones."""
        found: dict[str, Counter[str]] = {answer: Counter() for answer in sorted({e.answer for e in self.examples})}
        for e in self.examples:
            fate = "kept" if e.key in self.right else "wrong" if e.key in self.wrong else "unparsed"
            found[e.answer][fate] += 1
        return found
