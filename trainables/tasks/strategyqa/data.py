"""Load labelled StrategyQA questions, each once, from a file, a folder or the hub.

    FILE.json     the official list of {question, answer, facts, decomposition}, or the BIG-bench task file
                  {"examples": [{input, target_scores, target}]}, whose target is "Yes. " or "No. " and a rationale
    FILE.jsonl    a row a line: question, answer and, where known, facts, decomposition, rationale; or BIG-bench's as on
                  the hub: inputs, targets, multiple_choice_targets, multiple_choice_scores
    FILE.parquet  the same as columns
    FOLDER        such files with train, validation or test in their names (`files/splits.py`): strategyqa_train.json;
                  a file without any answer is left out beside others
    hub:NAME      what `datasets.load_dataset` gives for OWNER/NAME, or for a local folder that it can read

Official splits are kept, also those of a column `split` where no file name states one; the letter case of columns does
not matter. Test is for the final score, validation for the search. If one of the two is missing, the
other is the test split, and a part of train becomes the search split. A source of one part is divided into all three
splits. A hash of the question decides, so a question's split never depends on the other questions. Every fault of a
source raises a ValueError of one line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from trainables.checks.near_duplicates import plain
from trainables.core import Split
from trainables.tasks.files.marks import (
    LEARNED,
    MASKED,
    filled,
    lower_case,
    mark_columns,
    not_read,
    preferences,
    unlearned,
    unread,
)
from trainables.tasks.files.records import HUB, SUFFIXES, BadLine
from trainables.tasks.files.source import Part, parts_of
from trainables.tasks.files.splits import SPLIT, hash_fraction, splits_in_column

SEARCH_SHARE, TEST_SHARE = 0.15, 0.25  # of a source of one part; the first also of an official train split
QUESTIONS = ("question", "input", "inputs")  # columns: of StrategyQA, of BIG-bench's file, of BIG-bench on the hub
LABELS = ("answer", "target_scores", "multiple_choice_scores", "targets")  # columns that give the answer
OTHERS = ("target", "multiple_choice_targets", "facts", "decomposition", "rationale")  # further columns that are read
KNOWN = (*QUESTIONS, *LABELS, *OTHERS)
COLUMNS = (*KNOWN, *LEARNED, *MASKED, SPLIT)  # all that mean something
TURNS = {"messages", "conversations"}  # columns of conversations
ASKING = re.compile(r"^\s*Q:\s*|\s*A:\s*$")  # around a question of BIG-bench on the hub
SAID_FIRST = re.compile(r"^\s*(?:yes|no)\s*(?:[.,:]\s*|$)", re.IGNORECASE)  # the answer before a rationale
ANSWERS = {"yes": "Yes", "true": "Yes", "1": "Yes", "no": "No", "false": "No", "0": "No"}


@dataclass(frozen=True)
class Item:
    """A question's facts, its decomposition into simpler questions, and the reasoning in words."""

    facts: tuple[str, ...] = ()
    decomposition: tuple[str, ...] = ()
    rationale: str = ""


@dataclass(frozen=True)
class LabelledQuestion:
    """One labelled question. `key` is its `plain` text, so that a copy is recognised whatever its id."""

    key: str
    question: str
    answer: str  # Yes or No
    item: Item


def split_of(key: str) -> Split:
    """Return the split of a key, if the source has no splits; it depends on the key alone."""
    place = hash_fraction(key)
    return "search" if place < SEARCH_SHARE else "test" if place < SEARCH_SHARE + TEST_SHARE else "train"


@dataclass(frozen=True)
class Source:
    """The questions of a source, and those that are left out."""

    splits: Mapping[Split, tuple[LabelledQuestion, ...]]
    repeated: int  # rows whose question an earlier row asks, with the same answer
    contradicted: tuple[str, ...]  # questions to which rows give both answers
    notes: tuple[str, ...] = ()  # lines about files and rows that are left out, and columns that are not read

    def lines(self) -> list[str]:
        """Describe what is left out."""
        lines = [f"left out: {self.repeated} rows that ask what another asks"] if self.repeated else []
        if self.contradicted:
            count = len(self.contradicted)
            lines.append(
                f"left out: {count} questions whose rows contradict each other, such as {self.contradicted[0]!r}"
            )
        return [*lines, *self.notes]


@lru_cache(maxsize=4)
def load(data: str) -> Source:
    """Return every labelled question of a source, by split.

    A question that occurs several times is kept once: in test before search before train, and there its first row. A
    question with both answers is left out, because the right one is unknown. Raises ValueError in one line.
    """
    parts, notes = _parts(data)
    asked: dict[str, dict[str, str]] = {}  # key -> answer -> the question as it came
    for entry in chain(*parts.values()):
        asked.setdefault(entry.key, {}).setdefault(entry.answer, entry.question)
    contradicted = {key: next(iter(answers.values())) for key, answers in asked.items() if len(answers) > 1}
    sound = {name: [entry for entry in entries if entry.key not in contradicted] for name, entries in parts.items()}
    seen: set[str] = set()
    splits = {split: tuple(_new(entries, seen)) for split, entries in _divided(data, sound).items()}
    if empty := [split for split, entries in splits.items() if not entries]:
        but = f" but {len(contradicted)} whose rows contradict each other" if contradicted else ""
        raise ValueError(f"data='{data}' leaves no question for {' and '.join(empty)}{but}; give more questions")
    return Source(splits, sum(map(len, sound.values())) - len(seen), tuple(contradicted.values()), tuple(notes))


def _divided(data: str, parts: Mapping[str, list[LabelledQuestion]]) -> dict[Split, list[LabelledQuestion]]:
    """Return the parts of a source as splits, test first."""
    splits: dict[Split, list[LabelledQuestion]] = {"test": [], "search": [], "train": []}
    if len(parts) == 1:
        for entry in next(iter(parts.values())):
            splits[split_of(entry.key)].append(entry)
    elif "train" not in parts:
        has = " and ".join(parts) or "nothing"
        raise ValueError(f"data='{data}' has {has} and no train part; add one, or name a single file")
    elif not (asked := parts.get("test") or parts.get("validation")):
        raise ValueError(f"data='{data}' has no questions for test or validation; add some, or give train alone")
    else:
        splits["test"] = asked
        if "test" in parts and "validation" in parts:
            splits["search"], splits["train"] = parts["validation"], parts["train"]
        else:
            for entry in parts["train"]:
                splits["search" if hash_fraction(entry.key) < SEARCH_SHARE else "train"].append(entry)
    return splits


def _new(entries: Iterable[LabelledQuestion], seen: set[str]) -> Iterator[LabelledQuestion]:
    for entry in entries:
        if entry.key not in seen:
            seen.add(entry.key)
            yield entry


def _parts(data: str) -> tuple[dict[str, list[LabelledQuestion]], list[str]]:
    """Return a source's parts (train, validation, test, or one of any name) and their questions, and notes."""
    found, notes = parts_of(data, within="examples", besides="'generated', ")
    found = [part._replace(rows=[(place, lower_case(row, COLUMNS)) for place, row in part.rows]) for part in found]
    if not data.startswith(HUB) and len(found) > 1 and not any(part.split for part in found):
        raise ValueError(f"data='{data}' has no train, validation or test file ({', '.join(SUFFIXES)}); name the file")
    labelled = [part for part in found if any(_has_answer(row) for _, row in part.rows)]
    if labelled:  # else the first row is named below
        unlabelled = [part.name for part in found if part not in labelled]
        notes += [f"left out: {name}, in which no row has an answer" for name in unlabelled]
    parts: dict[str, list[LabelledQuestion]] = {}
    columns, marked = Counter[str](), list[str]()
    for part in labelled or found:
        entries = _entries(part)
        rows = [row for _, row in part.rows]
        marks = mark_columns(rows)
        gone = unlearned(rows, marks)
        marked += gone.values()
        stated = None if part.split else splits_in_column([str(row.get(SPLIT)) for row in rows])
        notes += [f"splits of {part.name}: as the column {SPLIT!r} states"] if stated else []
        columns.update(name for row in rows for name in unread(row, (*KNOWN, *marks, *([SPLIT] if stated else []))))
        for place, entry in enumerate(entries):
            if place not in gone:
                parts.setdefault(stated[place] if stated else part.split or part.name, []).append(entry)
    notes += [f"left out: {count} rows that the data marks so ({mark})" for mark, count in Counter(marked).items()]
    return parts, [*notes, *not_read(columns)]


def _has_answer(row: Any) -> bool:
    """Return whether a row has an answer; a row that cannot be read may have one."""
    return not isinstance(row, Mapping) or any(filled(row.get(name)) for name in LABELS)


def _entries(part: Part) -> list[LabelledQuestion]:
    if not part.rows:
        raise ValueError(f"{part.where}: holds no question; leave the file out or fill it")
    return [_entry(row, f"{part.where}: {place}") for place, row in part.rows]


def _entry(row: Any, where: str) -> LabelledQuestion:
    """Parse a row of any of the formats. Raise ValueError for an invalid one."""
    if isinstance(row, BadLine):
        raise ValueError(f"{where}: {row}")
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} is a {type(row).__name__}; write an object with question and answer")
    if (told := preferences(row)) and not _has_answer(row):
        raise ValueError(f"{where}: {told}")
    if not any(name in row for name in QUESTIONS):
        turns = "; conversations are for sweeps/style.py" if TURNS & {*row} else ""
        raise ValueError(f"{where} has no column 'question', only {', '.join(map(str, row)) or 'none'}{turns}")
    question = next((row[name] for name in QUESTIONS if name in row), None)
    if not isinstance(question, str) or not (key := plain(ASKING.sub("", question))):
        raise ValueError(f"{where} has the question {str(question)[:80]!r}; write it as text, in a column 'question'")
    value, given = _answer_and_rationale(row, where)
    answer = _answer(value, where)
    if not isinstance(given, str):
        raise ValueError(f"{where} has the rationale {given!r}; write it as text")
    item = Item(_texts(row, "facts", where), _texts(row, "decomposition", where), given.strip())
    return LabelledQuestion(key, ASKING.sub("", question).strip(), answer, item)


def _answer_and_rationale(row: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    """Return the answer as the row writes it, and the reasoning. BIG-bench has both in one text, answer first."""
    if "target_scores" in row or "targets" in row:
        given = row.get("target") or next(iter(_values(row, "targets", where, str)), "")
        scores = row.get("target_scores")
        if numbers := _values(row, "multiple_choice_scores", where, (int, float)):
            named = _values(row, "multiple_choice_targets", where, str)
            if len(named) != len(numbers):
                counts = f"{len(named)} multiple_choice_targets and {len(numbers)} multiple_choice_scores"
                raise ValueError(f"{where} has {counts}; give each target a score")
            scores = dict(zip(named, numbers, strict=True))
        text = isinstance(given, str)
        said = re.split(r"\W", given.strip(), maxsplit=1)[0] if text else given
        return _best(scores) if scores else said, SAID_FIRST.sub("", given) if text else given
    return row.get("answer"), row.get("rationale") or ""


def _values(row: Mapping[str, Any], name: str, where: str, kind: type | tuple[type, ...]) -> list[Any]:
    """Read a field of BIG-bench: a list of texts or of numbers (`kind`), one of them as a table has it, or empty."""
    value = row.get(name) if filled(row.get(name)) else []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, kind) for one in values):
        raise ValueError(f"{where} has {name} {value!r}; write a list of {'texts' if kind is str else 'numbers'}")
    return values


def _best(scores: Any) -> Any:
    """Return the only answer of a BIG-bench row with the score 1."""
    right = [name for name, score in scores.items() if score == 1] if isinstance(scores, Mapping) else []
    return right[0] if len(right) == 1 else scores


def _answer(value: Any, where: str) -> str:
    if not filled(value):
        raise ValueError(f"{where} has no answer; an unlabelled file cannot be scored: leave it out")
    if (answer := ANSWERS.get(str(value).strip().lower())) is None:
        raise ValueError(f"{where} has the answer {value!r}; write true or false, or Yes or No")
    return answer


def _texts(row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """Read a field that may be a list of texts, one text, or empty."""
    value = row.get(name) or []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where} has {name} {value!r}; write a list of texts")
    return tuple(text.strip() for text in texts)
