"""Questions of reasoning-gym: a hundred generators, each with a verifier that scores answers.

Which generators and parameters: `generators.py`. How questions are drawn and kept apart: `questions.py`. How an answer
is scored: `verifier.py`; the score is the generator's own. Generators that cannot be used are refused in one line,
because a check fails: their verifier does not believe their own answer or believes nonsense (`verifier.py`), or their
questions differ from process to process (`repeatable.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

from trainables.core import BaseLengths, Example, Split, Task
from trainables.tasks.baselines import trivial_scores
from trainables.tasks.own.scores import is_choice_of_few
from trainables.tasks.reasoning.generators import (
    JOIN,
    PREFIX,
    Generator,
    open_dataset,
    package_version,
    split_names,
    with_params,
)
from trainables.tasks.reasoning.questions import Sizes, check_no_constant, draw, stream
from trainables.tasks.reasoning.readings import first_named, is_number, reading
from trainables.tasks.reasoning.repeatable import check_repeatable
from trainables.tasks.reasoning.verifier import CONSTANTS, verified

SLACK, MOST_NEW = 8, 512  # tokens beyond the longest answer; of all


@dataclass(frozen=True)
class ReasoningTask(Task):
    """Sizes are in questions, shared equally by the generators, whose names are the kinds of question."""

    name: ClassVar[str] = "reasoning"
    search_limit: ClassVar[str] = "search_size"
    test_limit: ClassVar[str] = "test_size"

    generators: str = "rg:chain_sum+gcd+leg_counting+letter_counting+syllogism+spell_backward"
    params: tuple[str, ...] = ()  # of generators, such as chain_sum.max_terms=3; of one alone: max_terms=3
    instruction: str = "Give only the answer, without an explanation."  # after every question; empty: none
    seed: int = 0
    train_size: int = 480
    search_size: int = 120
    test_size: int = 300
    max_new_tokens: int = 0  # 0: what the longest answer takes, and some more

    def __post_init__(self) -> None:
        names = split_names(self.generators)
        object.__setattr__(self, "generators", f"{PREFIX}{JOIN.join(names)}")
        with_params(names, self.params)
        for field in ("train_size", "search_size", "test_size"):
            if getattr(self, field) < len(names):
                least = f"{len(names)} (one of each generator)"
                raise ValueError(f"{field}={getattr(self, field)} is below {least}; give {len(names)} or more")
        if self.max_new_tokens < 0:
            raise ValueError(f"max_new_tokens={self.max_new_tokens} is below 0; give 0 or more")

    def train(self) -> Sequence[Example]:
        return self._enough("train")

    def search(self) -> Sequence[Example]:
        return self._enough("search")

    def test(self) -> Sequence[Example]:
        return self._enough("test")

    def test_up_to(self, count: int) -> Sequence[Example]:
        """Return as many as there are, where a generator has no more different ones."""
        return _examples(replace(self, test_size=max(self.test_size, count)), "test")

    @property
    def chance(self) -> float:
        """The mean over the search split of a uniform guess among the answers of train, by the verifier; 0 for a
        generator that has no few answers."""
        search = self.search()
        return sum(_mean([self.score(e, one) for one in self._admissible(e.kind)]) for e in search) / len(search)

    def score(self, example: Example, completion: str) -> float:
        """Return what the generator's own verifier gives a completion without surrounding space."""
        return verified(self._dataset(example.kind), example.data, completion)

    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """`lenient`: the verifier's score of the answer that stands somewhere in the completion (see `reading`).
        `unparsed`: there is none."""
        score = self.score(example, completion)
        admissible = self._admissible(example.kind)
        said = reading(completion, example.answer, admissible)
        lenient = self.score(example, said) if said is not None else 0.0
        has_form = bool(admissible) or is_number(example.answer)
        unparsed = said is None if has_form else not completion.strip()
        return {"lenient": max(score, lenient), "unparsed": float(unparsed)}

    def baselines(self) -> Mapping[str, float]:
        """Return `trivial_scores`; `copy` repeats the first admissible answer that a question names, or else its last
        number or word. `best_constant` tries `CONSTANTS`, too, as verifiers give shares of a point for wrong answers.
        """
        return trivial_scores(
            self, lambda one: first_named(one.data["question"], self._admissible(one.kind)), CONSTANTS
        )

    def describe(self, count_tokens: Callable[[str], int]) -> list[str]:
        """Return lines about the generators, the splits, and what is left out."""
        drawn = [draw(generator, self.seed, sizes) for generator, sizes in self._sizes()]
        counts = ", ".join(f"{split} {len(self.split(split)):,}" for split in ("train", "search", "test"))
        repeated, draws = sum(one.repeated for one in drawn), sum(one.draws for one in drawn)
        names = ", ".join(str(generator) for generator, _ in self._sizes())
        return [
            f"reasoning-gym {package_version()}: {names}; splits by a hash of the question: {counts}",
            f"left out: {repeated:,} of {draws:,} drawn questions, which were drawn before",
        ]

    def fitted(self, bases: Sequence[BaseLengths]) -> Self:
        """Return the task with `max_new_tokens`.

        Raise ValueError for generators that cannot be used, and for questions that are too long for a base.
        """
        examples = [*self.train(), *self.search(), *self.test()]
        check_no_constant(self._sizes(), self.seed)
        check_repeatable(self._sizes(), self.seed)
        for base in bases:
            if long := [example for example in examples if base.is_too_long(example, SLACK)]:
                kinds = ", ".join(dict.fromkeys(example.kind for example in long))
                count = f"{len(long):,} of {len(examples):,} questions (of {kinds})"
                raise ValueError(f"{count} exceed the base's {base.limit:g} tokens; shorten them with --task.params")
        longest = max((base.answer(example) for example in examples for base in bases), default=0)
        return replace(self, max_new_tokens=self.max_new_tokens or min(MOST_NEW, longest + SLACK))

    def _enough(self, split: Split) -> Sequence[Example]:
        found, size = _examples(self, split), getattr(self, f"{split}_size")
        if len(found) == size:
            return found
        counts = {name: sum(example.kind == name for example in found) for name in split_names(self.generators)}
        name = min(counts, key=lambda one: counts[one])
        there = f"has only {counts[name]:,} different questions for the {split} split with these parameters"
        raise ValueError(f"{PREFIX}{name} {there}; give a smaller {split}_size, or others with --task.params")

    def _sizes(self) -> tuple[tuple[Generator, Sizes], ...]:
        """Return the generators and how many questions each gives; the first ones give the remainder."""
        made = with_params(split_names(self.generators), self.params)
        sizes = (self.train_size, self.search_size, self.test_size)
        shares = [Sizes(*(len(range(place, size, len(made))) for size in sizes)) for place in range(len(made))]
        return tuple(zip(made, shares, strict=True))

    def _dataset(self, kind: str) -> Any:
        generator = next(one for one, _ in self._sizes() if one.name == kind)
        return open_dataset(generator, stream(self.seed, kind))

    def _admissible(self, kind: str) -> Sequence[str]:
        """Return the different answers of a generator, if they are few; else nothing."""
        return _few_answers(self, kind)


@lru_cache(maxsize=16)
def _examples(task: ReasoningTask, split: Split) -> tuple[Example, ...]:
    """Return what there is of a split. Generators alternate."""
    version, made = package_version(), []
    for place, (generator, sizes) in enumerate(task._sizes()):
        for index, (entry, key) in enumerate(draw(generator, task.seed, sizes).splits[split]):
            prompt = f"{entry['question'].strip()}\n{task.instruction}".strip()
            key = f"{generator.name}/{version}/{key}"  # another version may draw, and verify, in another way
            made.append((index, place, Example(prompt, entry["answer"].strip(), generator.name, key, data=entry)))
    return tuple(example for *_, example in sorted(made, key=lambda row: row[:2]))


@lru_cache(maxsize=64)
def _few_answers(task: ReasoningTask, kind: str) -> tuple[str, ...]:
    answers = [example.answer for example in task.train() if example.kind == kind]
    return tuple(dict.fromkeys(answers)) if is_choice_of_few(answers) else ()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
