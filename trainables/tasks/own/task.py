"""A user's own questions and answers.

Where questions are and what they look like: `data.py` and `columns.py`. How a completion is compared with the right
answer: `scores.py`, or a function of the user's own (`user_function.py`). Where nothing can be compared, because an
answer is right in many wordings, learners rank by the likelihood of the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, Self

from trainables.core import BaseLengths, Example, ParsedAnswer, Split, Task
from trainables.tasks.baselines import trivial_scores
from trainables.tasks.files.records import from_anywhere
from trainables.tasks.files.splits import hash_fraction
from trainables.tasks.own import scores
from trainables.tasks.own.data import Question, Source, count_of, load, without
from trainables.tasks.own.user_function import FunctionName, call, carried, trust_file
from trainables.tasks.style.task import similarity

SLACK, MOST_NEW, SHOWN_ONLY = 8, 512, 48  # tokens: beyond the longest answer; of all; of those that are only shown
TRIED = 20  # right answers on which a score function is tried before anything starts


@dataclass(frozen=True)
class OwnTask(Task):
    """Sizes are in questions; 0, or more than there are, takes all. `seed` picks which are taken."""

    name: ClassVar[str] = "own"
    search_limit: ClassVar[str] = "search_size"
    test_limit: ClassVar[str] = "test_size"
    flag_names: ClassVar[Mapping[str, str]] = {"scoring": "score", "split_by": "split"}

    data: str = ""  # a .csv, .tsv, .jsonl, .json or .parquet file, a folder of them, or hub:OWNER/NAME
    prompt: str = ""  # a column, or a template: "{context}\n\nQ: {question}"; empty: found by its name
    answer: str = ""  # the same for the right answer
    choices: tuple[
        str, ...
    ] = ()  # a column with a list, or several columns; empty: found for the scores auto and choice
    scoring: str = scores.AUTO  # exact, contains, number, choice, regex:PATTERN, likelihood, or FILE.py:function
    split_by: str = ""  # a column that says train, validation or test
    group: str = ""  # a column: rows in which it is equal are never in two splits
    seed: int = 0
    train_size: int = 0
    search_size: int = 250
    test_size: int = 500
    max_new_tokens: int = 0  # 0: what the longest answer takes, and some more
    score_seconds: float = 10.0  # that a function of one's own may take for an answer
    without: tuple[str, ...] = ()  # rows that are left out, such as "my.csv line 17"; too long ones are added

    def __post_init__(self) -> None:
        for name in ("seed", "train_size", "search_size", "test_size", "max_new_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is below 0; give 0 or more")
        if not self.score_seconds > 0:
            raise ValueError(f"score_seconds={self.score_seconds} is not above 0; give a number of seconds")
        object.__setattr__(self, "data", from_anywhere(self.data))
        if function := FunctionName.of(self.scoring):
            object.__setattr__(self, "scoring", ":".join(function))
        elif self.scoring.startswith(scores.REGEX):
            scores.compiled_pattern(self.scoring.removeprefix(scores.REGEX))
        elif self.scoring not in (scores.AUTO, scores.LIKELIHOOD, *scores.RULES):
            known = ", ".join([*scores.RULES, "regex:PATTERN", scores.LIKELIHOOD, "FILE.py:function"])
            raise ValueError(f"score '{self.scoring}' is not known; give one of {known}")

    def __getstate__(self) -> dict[str, Any]:
        """Take the source of a trusted score function along, as other machines may not have its file."""
        return {**vars(self), "carried": carried(self.scoring)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if source := state.pop("carried"):
            trust_file(*source)
        vars(self).update(state)

    def train(self) -> Sequence[Example]:
        return self._examples("train", self.train_size)

    def search(self) -> Sequence[Example]:
        return self._examples("search", self.search_size)

    def test(self) -> Sequence[Example]:
        return self._examples("test", self.test_size)

    def test_up_to(self, count: int) -> Sequence[Example]:
        return self._examples("test", max(self.test_size, count) if self.test_size else 0)

    @property
    def rule(self) -> str:
        """How answers are scored: `scoring`, or what fits the answers."""
        return self.scoring if self.scoring != scores.AUTO else _automatic(self._source, self.without)[0]

    @property
    def ranks_by_likelihood(self) -> bool:
        return self.rule == scores.LIKELIHOOD

    @property
    def chance(self) -> float:
        """The mean of 1 / choices over the search split, or 1 / answers if there are few different ones; else 0."""
        if self.rule == "choice":
            counts = [len(example.data.choices) for example in self.search()]
            return sum(1 / count if count else 0.0 for count in counts) / len(counts)
        answers = [example.answer for example in self.train()]
        return 1 / len(set(answers)) if self.rule == "exact" and scores.is_choice_of_few(answers) else 0.0

    def score(self, example: Example, completion: str) -> float:
        """Return the score by `rule`; where learners rank by likelihood, the similarity to the answer by words.

        Raise ScoreError if a function of the user's own fails.
        """
        return _scorer(self.rule, self.score_seconds)(example.data, completion)

    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """`lenient`: the right answer, or the text of its choice, stands somewhere in the completion; not for a
        function of the user's own. `unparsed`: there is no number or choice, or no answer at all."""
        if self.user_code_files():
            return {"unparsed": float(not completion.strip())}
        score, one = self.score(example, completion), example.data
        if self.rule == "choice":
            parsed: Any = scores.said_choice(one.choices, completion)
            return {"lenient": max(score, scores.names_choice(one, completion)), "unparsed": float(parsed is None)}
        parsed = scores.last_number(completion) if self.rule == "number" else completion.strip()
        return {"lenient": max(score, scores.contains(one, completion)), "unparsed": float(not parsed)}

    def parse_answer(self, completion: str) -> ParsedAnswer | None:
        return scores.last_number(completion) if self.rule == "number" else None

    def baselines(self) -> Mapping[str, float]:
        """Return the scores of trivial strategies on the search split.

        `constant` gives the commonest answer of train to everything, `majority` the commonest of each kind,
        `constant.<kind>` is the score of `majority` on that kind, and `copy` repeats the prompt, or its first choice.
        """
        return trivial_scores(self, lambda one: one.data.choices[0].label if one.data.choices else one.prompt)

    def describe(self, count_tokens: Callable[[str], int]) -> list[str]:
        """Return lines about the columns, the splits, the score and what is left out."""
        found, *left_out = load(self._source).lines
        rule, why = self.scoring, "as asked"
        if self.scoring == scores.AUTO:
            rule, why = _automatic(self._source, self.without)
        elif self.user_code_files():
            why = f"it gives right answers {self._of_right_answers():.2f} on average"
        lines = [found, f"score: {rule} ({why}); --task.score changes it", *left_out]
        if self.without:
            lines.append(f"left out: {count_of(self.without)}, too long for the base or named by --task.without")
        lengths = [count_tokens(example.answer) for example in self._all()]
        cut = sum(length >= self.max_new_tokens for length in lengths)
        if cut and not self.ranks_by_likelihood:
            told = f"{cut:,} of {len(lengths):,} do not fit into max_new_tokens={self.max_new_tokens}"
            lines.append(f"answers: {told}, and can only score 0")
        return lines

    def user_code(self) -> str:
        function = FunctionName.of(self.scoring)
        return function.source() if function else ""

    def user_code_files(self) -> Sequence[str]:
        function = FunctionName.of(self.scoring)
        return [function.file] if function else []

    def fitted(self, bases: Sequence[BaseLengths]) -> Self:
        """Return the task without the rows that a base cannot read, and with `max_new_tokens`.

        Raise ValueError if none is short enough, and ScoreError if a score function cannot score right answers.
        """
        self._of_right_answers()
        examples = self._all()
        too_long = [one.data.place for one in examples if any(base.is_too_long(one, SLACK) for base in bases)]
        if len(too_long) == len(examples) > 0:
            raise ValueError(f"data='{self.data}': every row is too long for the base ({bases[0].limit:g} tokens)")
        gone = {*too_long}
        longest = max((base.answer(one) for one in examples if one.data.place not in gone for base in bases), default=0)
        most = min(MOST_NEW, longest + SLACK) if not self.ranks_by_likelihood else min(SHOWN_ONLY, longest + SLACK)
        return replace(self, without=(*self.without, *too_long), max_new_tokens=self.max_new_tokens or most)

    @property
    def _source(self) -> Source:
        columns = (self.prompt, self.answer, self.choices, self.scoring in (scores.AUTO, "choice"))
        return Source(self.data, *columns, self.split_by, self.group)

    def _of_right_answers(self) -> float:
        """Return the mean score of some right answers."""
        some = self.search()[:TRIED] or self._all()[:TRIED]
        return sum(self.score(example, example.answer) for example in some) / len(some)

    def _all(self) -> list[Example]:
        return [example for own in _splits(self._source, self.without).values() for example in own]

    def _examples(self, split: Split, size: int) -> Sequence[Example]:
        """Return so many examples of a split, in the order of a hash; all of them, in the order of the data, for 0.

        Test questions are always in the order of the hash, so that the first ones are a fair sample of rows that may be
        sorted.
        """
        own = _splits(self._source, self.without)[split]
        if split != "test" and (not size or size >= len(own)):
            return own
        return _in_order_of_hash(self._source, self.without, split, self.seed)[: size or len(own)]


@lru_cache(maxsize=4)
def _splits(source: Source, left_out: tuple[str, ...]) -> Mapping[Split, tuple[Example, ...]]:
    splits = without(load(source), left_out)
    return {split: tuple(map(_example, own)) for split, own in splits.items()}


@lru_cache(maxsize=12)
def _in_order_of_hash(source: Source, left_out: tuple[str, ...], split: Split, seed: int) -> tuple[Example, ...]:
    own = _splits(source, left_out)[split]
    return tuple(sorted(own, key=lambda example: hash_fraction(f"{seed}/{example.key}/{example.prompt}")))


def _example(one: Question) -> Example:
    kind = f"{len(one.choices)} choices" if one.choices else "question"
    return Example(one.prompt, one.answer, kind, one.key, data=one)


@lru_cache(maxsize=8)
def _automatic(source: Source, left_out: tuple[str, ...]) -> tuple[str, str]:
    return scores.automatic([example.data for own in _splits(source, left_out).values() for example in own])


@lru_cache(maxsize=8)
def _scorer(rule: str, seconds: float) -> Callable[[Question, str], float]:
    if function := FunctionName.of(rule):
        return partial(_by_function, function, seconds)
    if rule.startswith(scores.REGEX):
        return scores.by_pattern(rule.removeprefix(scores.REGEX))
    return scores.RULES.get(rule, _similarity)


def _by_function(function: FunctionName, seconds: float, one: Question, completion: str) -> float:
    return call(function, seconds, one.columns, completion, one.place)


def _similarity(one: Question, completion: str) -> float:
    return similarity(one.answer.split(), completion.split())
