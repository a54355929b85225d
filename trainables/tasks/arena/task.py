"""The reasoning arena: comparison, sequence, causal, math word problem and logic grid, each with one right answer.

The questions are generated: `kinds.py` has the generators and counts their distinct questions (from 29,368 sequences to
15 million logic grids). A question's key is its kind, template and entities; a stable hash of the key
decides its bucket, so no two splits, and not the pre-training of `builtin:tiny`, ever share one. Scoring is strict on
the first line; a right answer in another format counts only in `details`. See `docs/results/arena.md`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import ClassVar

from trainables.core import Example, Task
from trainables.tasks.arena.kinds import KINDS
from trainables.tasks.arena.world import LARGEST_NUMBER, Question

BUCKETS = {"pretrain": 70, "train": 10, "search": 8, "test": 12}  # percent of the keys
LARGEST_SPLIT = 1000  # questions of one kind in one split; with more, the rarest templates would run out


@dataclass(frozen=True)
class ArenaTask(Task):
    """Sizes are in questions, shared equally by the kinds; `seed` selects the questions of a bucket."""

    name: ClassVar[str] = "arena"
    search_limit: ClassVar[str] = "search_size"
    test_limit: ClassVar[str] = "test_size"

    seed: int = 0
    train_size: int = 640  # 80 steps of batch 8: four rounds
    search_size: int = 250
    test_size: int = 500
    kinds: tuple[str, ...] = tuple(KINDS)
    max_new_tokens: int = 16  # the longest answer is two digits; a sentence around it still fits

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) != len(self.kinds):
            raise ValueError(f"kinds={self.kinds}: name each kind once, out of {list(KINDS)}")
        bound = LARGEST_SPLIT * len(self.kinds)
        for field in ("train_size", "search_size", "test_size"):
            if not len(self.kinds) <= getattr(self, field) <= bound:
                raise ValueError(
                    f"{field}={getattr(self, field)} must lie between {len(self.kinds)} (one of each kind) and {bound}"
                )
        if self.max_new_tokens < 4:
            raise ValueError(f"max_new_tokens={self.max_new_tokens} cuts answers short; use 4 or more")

    def train(self) -> Sequence[Example]:
        return examples(self.kinds, "train", self.train_size, self.seed)

    def search(self) -> Sequence[Example]:
        return examples(self.kinds, "search", self.search_size, self.seed)

    def test(self) -> Sequence[Example]:
        return examples(self.kinds, "test", self.test_size, self.seed)

    def test_up_to(self, count: int) -> Sequence[Example]:
        size = max(self.test_size, min(count, LARGEST_SPLIT * len(self.kinds)))
        return examples(self.kinds, "test", size, self.seed)

    @property
    def chance(self) -> float:
        """The mean of 1 / (admissible answers) over the search split: the people, events or items named, or 0 to 99."""
        search = self.search()
        return sum(1 / len(candidates(e) or range(LARGEST_NUMBER + 1)) for e in search) / len(search)

    def baselines(self) -> Mapping[str, float]:
        """Return the scores of trivial strategies on the search split.

        `constant` gives the training set's commonest answer to everything, `majority` the commonest of each kind,
        `constant.<kind>` is the score of `majority` on that kind, and `copy` repeats the first admissible answer that
        the question names.
        """
        search, train = self.search(), self.train()
        return baselines(train, search)

    def score(self, example: Example, completion: str) -> float:
        """Return 1 if the first line, without surrounding space and one final full stop, is the answer in any letter
        case."""
        return float(first_line(completion) == example.answer.lower())

    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """`lenient`: right in any format (see `lenient_answer`). `unparsed`: the first line is no admissible answer."""
        line = first_line(completion)
        parsed = line in (c.lower() for c in candidates(example)) if candidates(example) else is_number(line)
        return {
            "lenient": float(lenient_answer(example, completion) == example.answer.lower()),
            "unparsed": float(not parsed),
        }


def key_of(kind: str, question: Question) -> str:
    """Return kind, template and entities, such as `comparison/height/Ann,Ben,Cleo`."""
    return f"{kind}/{question.template}/{','.join(question.entities)}"


def bucket(key: str) -> str:
    """Return the bucket of a key, which depends on nothing else: not on the machine, the seed or Python's version."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    for name, share in BUCKETS.items():
        if place < share:
            return name
        place -= share
    raise AssertionError("the shares of BUCKETS add up to 100")


def candidates(example: Example) -> tuple[str, ...]:
    """Return the admissible answers that the question names, sorted; empty if the answer is a number."""
    return tuple(example.data)


@cache
def examples(kinds: tuple[str, ...], split: str, size: int, seed: int) -> tuple[Example, ...]:
    """Return `size` distinct questions of one bucket. Kinds alternate; the first kinds get the remainder."""
    drawn = []
    for place, kind in enumerate(kinds):
        rng, seen = Random(f"{seed}/{kind}/{split}"), set[str]()
        while len(seen) < len(range(place, size, len(kinds))):
            question = KINDS[kind].draw(rng)
            key = key_of(kind, question)
            if question.prompt not in seen and bucket(key) == split:
                seen.add(question.prompt)
                example = Example(
                    question.prompt, question.answer, kind, key, question.difficulty, data=question.candidates
                )
                drawn.append((len(seen), place, example))
    return tuple(example for *_, example in sorted(drawn, key=lambda row: row[:2]))


def first_line(completion: str) -> str:
    """Return the first line that is not empty, in lower case, without surrounding space and one final full stop."""
    line = completion.lstrip().split("\n", 1)[0].strip()
    return line.removesuffix(".").rstrip().lower()


def is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]+", text) is not None and int(text) <= LARGEST_NUMBER


def lenient_answer(example: Example, completion: str) -> str | None:
    """Return the only admissible answer that a completion names, in lower case; None if it names none or several.

    If there is an "answer is", "answer:" or "=", only the text after the last one counts.
    """
    text = re.split(r"answer is|answer:|=", completion.lower())[-1]
    wanted = "|".join(re.escape(c.lower()) for c in candidates(example)) or r"[0-9]+"
    named = set(re.findall(rf"(?<![\w.-])(?:{wanted})(?!\w|[.,]\d)", text))
    return named.pop() if len(named) == 1 else None


def baselines(train: Sequence[Example], search: Sequence[Example]) -> dict[str, float]:
    """Return what `ArenaTask.baselines` reports, for any two lists; ties go to the answer that is first in `train`."""

    def share(rows: Sequence[Example], guess: str | None = None) -> float:
        return sum(e.answer == (common[e.kind] if guess is None else guess) for e in rows) / len(rows)

    common = {k: Counter(e.answer for e in train if e.kind == k).most_common(1)[0][0] for k in {e.kind for e in train}}
    per_kind = {k: [e for e in search if e.kind == k] for k in dict.fromkeys(e.kind for e in search)}
    overall = Counter(e.answer for e in train).most_common(1)[0][0]
    return {
        "constant": share(search, overall),
        "majority": share(search),
        "copy": sum(e.answer == first_named(e) for e in search) / len(search),
        **{f"constant.{kind}": share(rows) for kind, rows in per_kind.items()},
    }


def first_named(example: Example) -> str | None:
    """Return the first admissible answer that the question names."""
    wanted = "|".join(candidates(example)) or "[0-9]+"
    found = re.search(rf"\b(?:{wanted})\b", example.prompt)
    return found.group() if found else None
