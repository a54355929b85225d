"""Guards: find faults in the data of a sweep that would make its scores worthless, before it starts.

A finding that stops a sweep can be allowed by name (`--allow overlap`). It is then written into the leaderboard, like
findings that do not stop it. Each guard has a planted fault in the tests, and passes on the tasks of Espalier.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter, eq
from typing import Literal

from trainables.checks.near_duplicates import copies, plain
from trainables.core import Example, Split, Task

SPLITS: tuple[Split, ...] = ("train", "search", "test")
PROMPT_PIECES = 7, None  # near-duplicates: the least pieces of three words that are told from chance, in any number
ANSWER_PIECES = 10, 5  # short answers come again by themselves, and so do formulas, in more examples than the second
TOO_MANY = 0.01  # of a split's examples that are in another split, or say their answer
FEW_ANSWERS, LOPSIDED = 20, 0.75  # a task with so few answers is a choice between them
SHIFTED, BY_CHANCE = 0.15, 0.01  # so much that it matters, and so rarely where two splits are drawn alike
SMALL = 0.25  # a split that shows only larger differences is too small to rank by
# The text between a name for the answer and the answer itself: `"label": "Yes"`, `the answer should be: Yes`.
TELLS = (
    r"\b(?:answer|label|target|solution)s?\b[\"'*_]*\s*"
    r"(?:(?:is|was|are|(?:should|must|would|will)\s+be)\b\s*[:=]?|:|=+>?|->|\()\s*[\"'*_(\[]*\s*"
)
NO_CHOICE = r"(?!\w)(?!\s*[\"')\]]*\s*(?:[/|]|(?:or|and)\b))"  # "answer: Yes or No" gives nothing away
PLACES = range(-6, 6)  # words from the end, and from the start, that may give the answer away
GIVES_AWAY = 0.2  # how much better than every baseline a word at a fixed place may be
ALWAYS = 0.95  # of the answers that stand at a place, so many are right: they were put there


Splits = Mapping[Split, Sequence[Example]]
Guard = Literal[
    "published", "overlap", "near_duplicates", "answer_in_prompt", "prompt_format", "label_balance", "small_split"
]


@dataclass(frozen=True)
class GuardFinding:
    """A guard's finding: its name, whether it stops the sweep, and one line with the evidence and the remedy."""

    guard: Guard
    stops: bool
    what: str


def inspect(task: Task, smallest_difference: Callable[[int], float]) -> list[GuardFinding]:
    """Run all guards. `smallest_difference(n)`: the smallest difference that n examples show at 80 % power."""
    splits: Splits = {split: task.split(split) for split in SPLITS}
    return [
        *published(splits, task.published),
        *overlap(splits, task.training_prompts),
        *near_duplicates(splits),
        *answer_in_prompt(splits, task.baselines()),
        *prompt_format(splits),
        *label_balance(splits),
        *small_split(splits, smallest_difference),
    ]


def published(splits: Splits, official_set: Callable[[Example], str | None]) -> Iterator[GuardFinding]:
    """Find official evaluation tasks in the training data; it stops the sweep if the test split is of the same set."""
    learned = [*splits["train"], *splits["search"]]
    asked = {official_set(example) for example in splits["test"]}
    found: dict[str, list[Example]] = {}
    for example in learned:
        if name := official_set(example):
            found.setdefault(name, []).append(example)
    for name, examples in found.items():
        what = f"{len(examples):,} of {len(learned):,} train and search tasks are evaluation tasks of {name}"
        keys = ", ".join(repr(example.key) for example in examples[:2])
        if name in asked:
            remedy = "use one official set alone (data=arc1 or data=arc2), or take them out"
            yield GuardFinding("published", True, f"{what}, which test asks too: keys {keys}; {remedy}")
        else:
            remedy = f"do not report {name} evaluation for what this trains"
            yield GuardFinding("published", False, f"{what}: keys {keys}; {remedy}")


def overlap(splits: Splits, training_prompts: Callable[[Example], Sequence[str]]) -> Iterator[GuardFinding]:
    """Find keys and prompts that two splits share. Prompts are compared as `plain` text; of a training example all of
    its `training_prompts` count."""
    owners: dict[str, tuple[Split, Example]] = {}
    for split in SPLITS:
        for example in splits[split]:
            prompts = training_prompts(example) if split == "train" else [example.prompt]
            for mark in (f"key {example.key}", *(f"prompt {plain(prompt)}" for prompt in prompts)):
                other, twin = owners.setdefault(mark, (split, example))
                if other != split:
                    yield GuardFinding(
                        "overlap",
                        True,
                        f"splits {other} and {split} overlap: {_shown(twin)} and {_shown(example)};"
                        " give each to one split",
                    )
                    return


def near_duplicates(splits: Splits) -> Iterator[GuardFinding]:
    """Find prompts and long answers that contain, or are contained in, one of an earlier split."""
    earlier: list[tuple[Split, Example]] = []
    for before, split in pairwise(SPLITS):
        earlier += [(before, example) for example in splits[before]]
        own = splits[split]
        for what, text, least, most in (
            ("prompts", attrgetter("prompt"), *PROMPT_PIECES),
            ("answers", attrgetter("answer"), *ANSWER_PIECES),
        ):
            twins = copies([text(e) for _, e in earlier], [text(e) for e in own], least, most)
            if len(twins) > max(1, TOO_MANY * len(own)):
                place, origin = next(iter(twins.items()))
                first, twin = earlier[origin]
                yield GuardFinding(
                    "near_duplicates",
                    True,
                    f"{len(twins)} of {len(own)} {split} {what} are nearly in {first}: {_shown(twin, text(twin))} and"
                    f" {_shown(own[place], text(own[place]))}; split by source, not by row",
                )
                break


def answer_in_prompt(splits: Splits, baselines: Mapping[str, float]) -> Iterator[GuardFinding]:
    """Find the answer behind a marker ("the answer is Paris"), or at a fixed place that no baseline uses.

    If wrong answers stand at that place too, the finding does not stop the sweep.
    """
    trivial = max((value for name, value in baselines.items() if "." not in name), default=0.0)
    for split in SPLITS[1:]:
        examples = splits[split]
        told = [e for e in examples if re.search(TELLS + re.escape(e.answer) + NO_CHOICE, e.prompt, re.I)]
        if len(told) > TOO_MANY * len(examples):
            yield GuardFinding(
                "answer_in_prompt",
                True,
                f"{len(told)} of {len(examples)} {split} prompts say their answer: {_shown(told[0])}"
                f" {told[0].answer!r}; take it out of the prompt",
            )
            continue
        answers, found = [e.answer.lower() for e in examples], []
        for place in PLACES:
            words = [_word_at(e.prompt, place) for e in examples]
            share = sum(map(eq, words, answers)) / len(examples)
            if share > min(ALWAYS, trivial + GIVES_AWAY):
                known = {*answers}
                sure = share * len(examples) > ALWAYS * sum(word in known for word in words)
                found.append((sure, share, place))
        for sure, share, place in sorted(found)[-1:]:
            where = f"word {place + 1} of" if place >= 0 else f"word {-place} from the end of"
            remedy = "take it out of the prompt" if sure else "repeating it is a baseline, which the task has not"
            yield GuardFinding(
                "answer_in_prompt",
                sure,
                f"{where} a prompt is the answer in {share:.0%} of {split}, and the best baseline is {trivial:.0%}:"
                f" {_shown(examples[0])} {examples[0].answer!r}; {remedy}",
            )


def prompt_format(splits: Splits) -> Iterator[GuardFinding]:
    """Find training and evaluation prompts that begin, end or break lines in different ways."""
    train = Counter(_format(e.prompt) for e in splits["train"])
    for split in SPLITS[1:]:
        own = Counter(_format(e.prompt) for e in splits[split])
        if _distance(train, own) > 0.5:
            strange = next(e for e in splits[split] if _format(e.prompt) == own.most_common(1)[0][0])
            yield GuardFinding(
                "prompt_format",
                True,
                f"{split} prompts have another format than train: {_shown(splits['train'][0])} and {_shown(strange)};"
                " make both with one function",
            )


def label_balance(splits: Splits) -> Iterator[GuardFinding]:
    """In a task with few answers, find one that dominates, or whose share differs between train and evaluation."""
    answers = {split: Counter(e.answer.lower() for e in splits[split]) for split in SPLITS}
    if len(answers["train"] | answers["search"] | answers["test"]) > FEW_ANSWERS:
        return
    for split, counted in answers.items():
        answer, count = counted.most_common(1)[0]
        share = count / len(splits[split])
        if share > LOPSIDED:
            yield GuardFinding(
                "label_balance",
                share == 1,
                f"{share:.0%} of {split} answers are {answer!r}, so always saying it scores as much; balance the split",
            )
        elif (
            (moved := _distance(answers["train"], counted)) > SHIFTED
            and len(splits[split]) >= 50
            and _differ(answers["train"], counted)
        ):
            yield GuardFinding(
                "label_balance",
                False,
                f"answers of train and {split} differ in {moved:.0%} of their mass; filter both alike, or weight them",
            )


def small_split(splits: Splits, smallest_difference: Callable[[int], float]) -> Iterator[GuardFinding]:
    """Find splits that are too small to show any but large differences."""
    for split in SPLITS[1:]:
        count, independent = len(splits[split]), len({example.key for example in splits[split]})
        shows = smallest_difference(independent)
        if shows > SMALL:
            known = f" ({independent} independent)" if independent < count else ""
            yield GuardFinding(
                "small_split",
                False,
                f"{split} has {count} examples{known}, which show differences from {100 * shows:.0f} points up"
                " (80 % power); add examples",
            )


def _word_at(text: str, place: int) -> str:
    words = re.findall(r"\w+", text.lower())
    return words[place] if -len(words) <= place < len(words) else ""


def _format(prompt: str) -> tuple[bool, str, str]:
    """Return (has several lines; its first label, such as `question`; its last character if not alphanumeric)."""
    label = re.match(r"\s*(\w{1,20})\s*:", prompt)
    last = prompt[-1:]
    return "\n" in prompt.strip(), label.group(1).lower() if label else "", "" if last.isalnum() else last


def _distance(one: Counter, other: Counter) -> float:
    """Return the total variation between two distributions, in [0, 1]."""
    total = one.total(), other.total()
    return sum(abs(one[key] / total[0] - other[key] / total[1]) for key in one | other) / 2


def _differ(one: Counter, other: Counter) -> bool:
    """Return whether two samples have different distributions, by a chi-square test of homogeneity."""
    from scipy.stats import chi2_contingency

    keys = list(one | other)
    return chi2_contingency([[one[key] for key in keys], [other[key] for key in keys]]).pvalue < BY_CHANCE


def _shown(example: Example, text: str = "") -> str:
    """Format an example by its key and the beginning of its prompt or of another text."""
    return f"key {example.key!r} ({' '.join((text or example.prompt).split())[:60]!r})"
