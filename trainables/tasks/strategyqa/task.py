"""StrategyQA: yes/no questions whose answer takes several steps (Geva et al. 2021, "Did Aristotle Use a Laptop?", MIT).

`data="generated"` is a closed world in the same form, for a base without knowledge (`world.py`); any other value is a
file, a folder or a hub name with real questions (`data.py`). Scoring is strict and has one parser,
`parse_answer`: what is neither a bare Yes or No nor ends with "the answer is yes" is unparsed, which is a category of
its own and never counted as No.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import ClassVar

from trainables.core import Example, ParsedAnswer, Split, Task
from trainables.tasks.files.records import from_anywhere
from trainables.tasks.strategyqa.data import Item, LabelledQuestion, load, split_of
from trainables.tasks.strategyqa.rationale_files import load_pairs, load_rationales
from trainables.tasks.strategyqa.world import KINDS, draw

GENERATED = "generated"
LARGEST_SPLIT = 20_000  # generated questions in one split
ENDS_WITH = re.compile(r"\bthe\s+answer\s+is\s+(yes|no)\b\.?\s*$", re.IGNORECASE)
CONCLUSION = re.compile(rf"\s*(?:\bso\s+)?{ENDS_WITH.pattern}", re.IGNORECASE)
BARE = re.compile(r"\s*(yes|no)[^\S\n]*\.?[^\S\n]*(?:\n|$)", re.IGNORECASE)


@dataclass(frozen=True)
class StrategyQaTask(Task):
    """Sizes are in questions; of real data 0, or more than there are, takes all. `seed` picks which are taken."""

    name: ClassVar[str] = "strategyqa"
    search_limit: ClassVar[str] = "search_size"
    test_limit: ClassVar[str] = "test_size"

    data: str = GENERATED  # or a file, a folder, or hub:OWNER/NAME
    facts_in_prompt: bool = False  # real data: put its facts before the question ("oracle facts"), an easier task
    rationales: str = ""  # a JSONL file of {"key", "rationale", "weight"}, in place of the data's own rationales
    pairs: str = ""  # a JSONL file of {"key", "chosen", "rejected"}: completions for dpo
    seed: int = 0
    train_size: int = 2000
    search_size: int = 250
    test_size: int = 500
    max_new_tokens: int = 8  # the answer and a full stop; with a rationale before it about 48

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("train_size", "search_size", "test_size")}
        generated = self.data == GENERATED
        for name in ("rationales", "pairs") if generated else ("data", "rationales", "pairs"):
            object.__setattr__(self, name, from_anywhere(getattr(self, name)))
        for name, size in sizes.items():
            if generated and not 4 <= size <= LARGEST_SPLIT:
                raise ValueError(f"{name}={size} must lie between 4 and {LARGEST_SPLIT} for generated questions")
            if size < 0:
                raise ValueError(f"{name}={size} must be 0 (all there are) or more")
        if generated and self.facts_in_prompt:
            raise ValueError("facts_in_prompt is for real data; generated prompts state their facts: leave it off")
        if self.max_new_tokens < 4:
            raise ValueError(f"max_new_tokens={self.max_new_tokens} cuts answers short; use 4 or more")

    def train(self) -> Sequence[Example]:
        """Raise ValueError for a `rationales` or `pairs` file that was made for other questions."""
        train = self._examples("train", self.train_size)
        for name, read in (("rationales", load_rationales), ("pairs", load_pairs)):
            if (path := getattr(self, name)) and read(path).keys().isdisjoint(example.key for example in train):
                raise ValueError(f"{name}='{path}' has none of the training questions in it; make it from them")
        return train

    def search(self) -> Sequence[Example]:
        return self._examples("search", self.search_size)

    def test(self) -> Sequence[Example]:
        return self._examples("test", self.test_size)

    def test_up_to(self, count: int) -> Sequence[Example]:
        if self.data != GENERATED:
            return self._examples("test", max(self.test_size, count) if self.test_size else 0)
        return self._examples("test", max(self.test_size, min(count, LARGEST_SPLIT)))

    @property
    def chance(self) -> float:
        return 0.5

    def baselines(self) -> Mapping[str, float]:
        """Return the scores of trivial strategies on the search split.

        `constant` gives the training set's commoner answer to everything, `majority` the commoner answer of each kind;
        `constant.<kind>` is the score of `majority` on that kind.
        """
        train, search = self.train(), self.search()
        overall = _commoner(train)
        own = {kind: _commoner([e for e in train if e.kind == kind] or train) for kind in {e.kind for e in search}}
        shares = {
            f"constant.{kind}": _share([e for e in search if e.kind == kind], own[kind])
            for kind in dict.fromkeys(e.kind for e in search)
        }
        majority = sum(e.answer == own[e.kind] for e in search) / len(search)
        return {"constant": _share(search, overall), "majority": majority, **shares}

    def balance(self) -> Mapping[str, float]:
        """Return the share of Yes in each split."""
        splits = {"train": self.train(), "search": self.search(), "test": self.test()}
        return {name: _share(examples, "Yes") for name, examples in splits.items()}

    def describe(self, count_tokens: Callable[[str], int]) -> list[str]:
        """Return lines about the labels' balance, the questions that are left out, and the rationales."""
        balance = ", ".join(f"{split} {share:.1%}" for split, share in self.balance().items())
        train = self.train()
        with_rationale = [e for e in train if self.rationale(e)]
        lines = [f"answers that are Yes: {balance}", *([] if self.data == GENERATED else load(self.data).lines())]
        if with_rationale:
            longest = max(count_tokens(self.rationale_answer(e)) for e in with_rationale)
            lines.append(
                f"rationales: {len(with_rationale)} of {len(train)} training questions, at most {longest} tokens each"
            )
        return lines

    def score(self, example: Example, completion: str) -> float:
        """Return 1 if `parse_answer` finds the right answer, else 0."""
        found = parse_answer(completion)
        return float(found is not None and found.answer == example.answer)

    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """Return `lenient` (right in any format, see `committed_to`), `unparsed` (no answer found) and `said_yes`."""
        found = parse_answer(completion)
        return {
            "lenient": float(committed_to(completion) == example.answer),
            "unparsed": float(found is None),
            "said_yes": float(found is not None and found.answer == "Yes"),
        }

    def rationale(self, example: Example) -> str:
        """Return the reasoning before the answer, from the `rationales` file or else from the data; "" if there is
        none."""
        if not self.rationales:
            return example.data.rationale
        row = load_rationales(self.rationales).get(example.key)
        return row.rationale if row else ""

    def rationale_weight(self, example: Example) -> float:
        """Return the weight of an example's rationale in the loss: the file's `weight`, or 1."""
        row = load_rationales(self.rationales).get(example.key) if self.rationales else None
        return row.weight if row else 1.0

    def pair(self, example: Example) -> tuple[str, str] | None:
        """Return (chosen, rejected) of this question in the `pairs` file; None if there is none."""
        return load_pairs(self.pairs).get(example.key) if self.pairs else None

    def extra_training_text(self, example: Example) -> str:
        return repr((self.rationale(example), self.rationale_weight(example), self.pair(example)))

    def rationale_answer(self, example: Example) -> str:
        """Return a completion that reasons first and then answers in a form that `parse_answer` reads."""
        return self.with_answer(self.rationale(example), example.answer)

    def with_answer(self, draft: str, answer: str) -> str:
        return with_answer(draft, answer)

    def draft(self, completion: str) -> str:
        """Return a completion's text without its answer, whether before it or after a bare Yes or No."""
        bare = BARE.match(completion)
        return CONCLUSION.sub("", completion[bare.end() if bare else 0 :]).strip()

    def parse_answer(self, completion: str) -> ParsedAnswer | None:
        return parse_answer(completion)

    def _examples(self, split: Split, size: int) -> Sequence[Example]:
        if self.data == GENERATED:
            return generated(split, size, self.seed)
        return collected(self.data, split, size, self.seed, self.facts_in_prompt)


def parse_answer(completion: str) -> ParsedAnswer | None:
    """Find the answer of a completion; None if there is none.

    Either the first line that is not empty is yes or no, in any letter case, with or without a full stop, or the
    completion ends with "the answer is yes" or "... no". If both hold and differ, there is no answer.
    """
    found = [match for match in (BARE.match(completion), ENDS_WITH.search(completion)) if match]
    if len({match.group(1).lower() for match in found}) != 1:
        return None
    return ParsedAnswer(found[-1].group(1).capitalize(), *found[-1].span(1))


def with_answer(draft: str, answer: str) -> str:
    """Return a draft and the answer after it, in a form that `parse_answer` reads."""
    return f"{draft} So the answer is {answer}.".lstrip()


def committed_to(completion: str) -> str | None:
    """Return Yes or No if exactly one occurs as a word, after the last "answer is" if there is one; else None."""
    text = re.split(r"answer is", completion.lower())[-1]
    words = set(re.findall(r"\b(?:yes|no)\b", text))
    return words.pop().capitalize() if len(words) == 1 else None


@cache
def generated(split: Split, size: int, seed: int) -> tuple[Example, ...]:
    """Return `size` distinct questions of one split; kinds and answers alternate, so each kind has equally many Yes and
    No.

    Template and entities decide the split, so splits never share them; the key also has a hash of the prompt.
    """
    rng, seen, made = Random(f"{seed}/strategyqa/{split}"), set[str](), list[Example]()
    order = [(kind, holds) for holds in (True, False) for kind in KINDS]
    while len(made) < size:
        kind, holds = order[len(made) % len(order)]
        question = draw(kind, rng, holds)
        group = f"{question.template}/{','.join(question.entities)}"
        if question.prompt in seen or split_of(group) != split:
            continue
        seen.add(question.prompt)
        key = f"{group}/{hashlib.sha256(question.prompt.encode()).hexdigest()[:8]}"
        item = Item(question.facts, question.decomposition, question.rationale)
        made.append(Example(question.prompt, "Yes" if holds else "No", kind, key, question.difficulty, data=item))
    return tuple(made)


@cache
def collected(data: str, split: Split, size: int, seed: int, facts_in_prompt: bool) -> tuple[Example, ...]:
    """Return real questions of one split; `seed` and each key select them, if `size` is smaller than the split."""
    entries = load(data).splits[split]
    order = sorted(entries, key=lambda entry: hashlib.sha256(f"{seed}/{entry.key}".encode()).digest())
    return tuple(_example(entry, facts_in_prompt) for entry in order[: size or None])


def _example(entry: LabelledQuestion, facts_in_prompt: bool) -> Example:
    steps = len(entry.item.decomposition)
    kind = "question" if not steps else "steps<=2" if steps <= 2 else "steps=3" if steps == 3 else "steps>=4"
    prompt = " ".join([*entry.item.facts, entry.question]) if facts_in_prompt else entry.question
    return Example(prompt, entry.answer, kind, entry.key, min(1.0, steps / 5), data=entry.item)


def _commoner(examples: Sequence[Example]) -> str:
    return Counter(e.answer for e in examples).most_common(1)[0][0]


def _share(examples: Sequence[Example], answer: str) -> float:
    return sum(e.answer == answer for e in examples) / len(examples)
