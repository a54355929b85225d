"""Style fine-tuning: answer as the assistant of a data set does.

Source: a user's own conversations (`chat/data.py`), or by default a generated corpus whose style rules can check
(`corpus.py`, 1,200 rows). On the generated corpus the score is the share of the rules that a completion keeps. On a
user's data there are no rules: the score is the share of words that the completion and the data's own answer have in
common, in order. That underrates a good answer in other words, so rank by likelihood there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from random import Random
from typing import ClassVar, Self

from trainables.core import BaseLengths, Example, Split, Task
from trainables.tasks.chat.data import Loaded, load
from trainables.tasks.chat.rows import Conversation
from trainables.tasks.chat.statistics import CountTokens, statistics
from trainables.tasks.files.records import from_anywhere
from trainables.tasks.files.splits import Official
from trainables.tasks.style import corpus

GENERATED = "generated"
SEARCH_SHARE, TEST_SHARE = 0.1, 0.1  # of training data that comes without a validation or test split
OFFICIAL: Mapping[Split, Official] = {"train": "train", "search": "validation", "test": "test"}


@dataclass(frozen=True)
class StyleTask(Task):
    """`Example.data` is the `Conversation`; `prompt` and `answer` are its last turn.

    Rows whose first user turns are equal share a split, whatever the seed; a data set's own validation and test splits
    become search and test. A size keeps so many rows, chosen by `seed`, in the order of the data.
    """

    name: ClassVar[str] = "style"
    search_limit: ClassVar[str] = "search_size"
    test_limit: ClassVar[str] = "test_size"

    data: str = GENERATED  # or a .jsonl, .json, .csv, .tsv or .parquet file, a folder of them, or hub:OWNER/NAME
    seed: int = 0  # of the generated corpus, and of the rows that a size keeps
    train_size: int = 0  # rows; 0: all
    search_size: int = 0
    test_size: int = 0
    max_new_tokens: int = (
        48  # the generated style takes up to 23; the data summary says how many answers of other data fit
    )
    max_length: int = 2048  # tokens of a conversation; longer rows are not trained on
    tools: bool = True  # read conversations with tools; a sweep leaves them out if a base's template has no place

    def __post_init__(self) -> None:
        for size in ("train_size", "search_size", "test_size"):
            if getattr(self, size) < 0:
                raise ValueError(f"{size}={getattr(self, size)} is below 0; give a number of rows, or 0 for all")
        for limit in ("max_new_tokens", "max_length"):
            if getattr(self, limit) < 1:
                raise ValueError(f"{limit}={getattr(self, limit)} is below 1; give a number of tokens")
        if self.data != GENERATED:
            object.__setattr__(self, "data", from_anywhere(self.data))

    @property
    def chance(self) -> float:
        """Zero: the chance of a uniform guess among all texts."""
        return 0.0

    def train(self) -> Sequence[Example]:
        return _splits(self)["train"]

    def search(self) -> Sequence[Example]:
        return _splits(self)["search"]

    def test(self) -> Sequence[Example]:
        return _splits(self)["test"]

    def conversations(self) -> dict[Split, tuple[Conversation, ...]]:
        """Return the conversations of each split."""
        return {split: tuple(example.data for example in rows) for split, rows in _splits(self).items()}

    def training_prompts(self, example: Example) -> Sequence[str]:
        """Return the prompts of all replies that are learned."""
        return [turn.prompt for turn in example.data.turns]

    def extra_training_text(self, example: Example) -> str:
        return repr((example.data.messages, example.data.tools))

    def describe(self, count_tokens: CountTokens) -> list[str]:
        """Return lines of statistics about the data, and about what is left out or not read."""
        lines = statistics(self.conversations(), count_tokens, self.max_length, self.max_new_tokens).lines()
        return lines if self.data == GENERATED else [*lines, *_loaded(self.data, self.tools).lines]

    def fitted(self, bases: Sequence[BaseLengths]) -> Self:
        """Return the task without conversations with tools, if the chat template of a base has no place for them."""
        if self.data == GENERATED or not self.tools or not _has_tools(self.data):
            return self
        return replace(self, tools=all(base.writes_tools for base in bases))

    @property
    def ranks_by_likelihood(self) -> bool:
        """Only a generated style has rules."""
        return self.data != GENERATED

    def score(self, example: Example, completion: str) -> float:
        """Return the share of the style's rules that hold for generated data, else the similarity to the answer by
        words."""
        if self.data == GENERATED:
            kept = corpus.rules(example.answer, completion)
            return sum(kept.values()) / len(kept)
        return similarity(example.answer.split(), completion.split())

    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """Return metrics beside the score.

        Generated data: `lenient` (a right answer in any style), `unparsed` (no answer found), `manner.<rule>` for each
        rule, and `manner.all`. Other data: `lenient`, the similarity without case and punctuation, and `unparsed`.
        """
        if self.data != GENERATED:
            gold, words = (re.findall(r"\w+", text.lower()) for text in (example.answer, completion))
            return {"lenient": similarity(gold, words), "unparsed": float(not completion.strip())}
        kept = corpus.rules(example.answer, completion)
        answer = corpus.answered(completion)
        return {
            "lenient": float(answer == corpus.answered(example.answer)),
            "unparsed": float(answer is None),
            "manner.all": float(all(kept.values())),
            **{f"manner.{rule}": float(holds) for rule, holds in kept.items()},
        }

    def baselines(self) -> Mapping[str, float]:
        """Return scores on the search split, overall and by kind.

        `constant` gives the commonest answer of train to everything, `copy` the prompt, `echo` its last sentence.
        """
        constant = Counter(example.answer for example in self.train()).most_common(1)[0][0]
        scores: dict[str, list[float]] = {}
        for example in self.search():
            last = re.split(r"(?<=[.!?])\s+", example.prompt.strip())[-1]
            for name, text in (("constant", constant), ("copy", example.prompt), ("echo", last)):
                score = self.score(example, text)
                for key in (name, f"{name}.{example.kind}"):
                    scores.setdefault(key, []).append(score)
        return {name: sum(values) / len(values) for name, values in scores.items()}


def similarity(gold: Sequence[str], words: Sequence[str]) -> float:
    """Return twice the matching words over all words (Ratcliff and Metzener 1988, `difflib`), in [0, 1]; 1 if equal."""
    return SequenceMatcher(None, gold, words, autojunk=False).ratio()


@lru_cache(maxsize=8)
def _splits(task: StyleTask) -> dict[Split, tuple[Example, ...]]:
    splits = _generated(task.seed) if task.data == GENERATED else _of_user(task.data, task.tools)
    return {split: _some(rows, getattr(task, f"{split}_size"), task.seed, split) for split, rows in splits.items()}


def _generated(seed: int) -> dict[Split, tuple[Example, ...]]:
    return {split: corpus.corpus(split, seed) for split in OFFICIAL}


@lru_cache(maxsize=4)
def _loaded(data: str, tools: bool) -> Loaded:
    return load(data, tools)


def _has_tools(data: str) -> bool:
    return any(one.uses_tools for own in _loaded(data, True).splits.values() for one in own)


@lru_cache(maxsize=4)
def _of_user(data: str, tools: bool) -> dict[Split, tuple[Example, ...]]:
    official = _loaded(data, tools).splits
    splits: dict[Split, list[Example]] = {split: [] for split in OFFICIAL}
    for split, name in OFFICIAL.items():
        for one in official.get(name, ()):
            place = _place(one.opening, official) if split == "train" else split
            kind = "one_turn" if len(one.turns) == 1 else "many_turns"
            splits[place].append(Example(one.prompt, one.answer, kind, one.key, data=one))
    for split, rows in splits.items():
        if not rows:
            raise ValueError(f"data='{data}' leaves the {split} split empty; add rows, or a {OFFICIAL[split]} file")
    return {split: tuple(rows) for split, rows in splits.items()}


def _place(opening: str, official: Collection[Official]) -> Split:
    """Return the split of a training row, by the hash of its first user turn. Missing official splits take a share."""
    fraction = int(opening, 16) / 16 ** len(opening)
    if fraction < SEARCH_SHARE and "validation" not in official:
        return "search"
    if fraction >= 1 - TEST_SHARE and "test" not in official:
        return "test"
    return "train"


def _some(rows: tuple[Example, ...], size: int, seed: int, split: Split) -> tuple[Example, ...]:
    if size > len(rows):
        raise ValueError(f"{split}_size={size}, but there are {len(rows)} rows; give fewer, or 0 for all")
    if not size and split != "test":
        return rows
    chosen = Random(f"{seed}/{split}").sample(range(len(rows)), size or len(rows))
    # A sweep with --minutes may ask only the first test questions: they are a fair sample of rows that may be sorted.
    return tuple(rows[i] for i in (chosen if split == "test" else sorted(chosen)))
