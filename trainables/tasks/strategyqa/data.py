"""Load labelled StrategyQA questions, each once, from a file, a folder or the hub.

    FILE.json     the official list of {question, answer, facts, decomposition}, or the BIG-bench task file
                  {"examples": [{input, target_scores, target}]}, whose target is "Yes. " or "No. " and a rationale
    FILE.jsonl    a row a line: question, answer and, where known, facts, decomposition, rationale
    FILE.parquet  the same as columns
    FOLDER        such files with train, validation or test in their names (`files/splits.py`): strategyqa_train.json
    hub:NAME      what `datasets.load_dataset` gives for OWNER/NAME, or for a local folder that it can read

Official splits are kept: test is for the final score, validation for the search. If one of the two is missing, the
other is the test split, and a part of train becomes the search split. A source of one part is divided into all three
splits. A hash of the question decides, so a question's split never depends on the other questions. Every fault of a
source raises a ValueError of one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from trainables.checks.near_duplicates import plain
from trainables.core import Split
from trainables.tasks.files.records import HUB, SUFFIXES, BadLine, from_hub, read
from trainables.tasks.files.splits import RENAME, hash_fraction, splits_of

SEARCH_SHARE, TEST_SHARE = 0.15, 0.25  # of a source of one part; the first also of an official train split
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

    def lines(self) -> list[str]:
        """Describe what is left out."""
        lines = [f"left out: {self.repeated} rows that ask what another asks"] if self.repeated else []
        if self.contradicted:
            count = len(self.contradicted)
            lines.append(
                f"left out: {count} questions whose rows contradict each other, such as {self.contradicted[0]!r}"
            )
        return lines


@lru_cache(maxsize=4)
def load(data: str) -> Source:
    """Return every labelled question of a source, by split.

    A question that occurs several times is kept once: in test before search before train, and there its first row. A
    question with both answers is left out, because the right one is unknown. Raises ValueError in one line.
    """
    parts = _parts(data)
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
    return Source(splits, sum(map(len, sound.values())) - len(seen), tuple(contradicted.values()))


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


def _parts(data: str) -> dict[str, list[LabelledQuestion]]:
    """Return a source's parts (train, validation, test, or one of any name) and their questions."""
    path = Path(data).expanduser()
    if data.startswith(HUB):
        return _hub(data)
    if path.is_file():
        return {"all": _entries(path)}
    if not data or not path.is_dir():
        raise ValueError(f"data='{data}' is not known; use 'generated', hub:OWNER/NAME, or an existing file or folder")
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    splits = splits_of([file.name for file in files], RENAME)
    if splits is None:
        raise ValueError(f"data='{data}' has no train, validation or test file ({', '.join(SUFFIXES)}); name the file")
    parts: dict[str, list[LabelledQuestion]] = {}
    for split, file in zip(splits, files, strict=True):
        parts.setdefault(split, []).extend(_entries(file))
    return parts


def _hub(data: str) -> dict[str, list[LabelledQuestion]]:
    loaded, parts = dict(from_hub(data)), dict[str, list[LabelledQuestion]]()
    splits = splits_of([*loaded], "save the parts that you want as files called train, validation and test")
    for split, (name, rows) in zip(splits or loaded, loaded.items(), strict=True):
        parts.setdefault(split, []).extend(_entry(row, f"{data} {name} {place}") for place, row in rows)
    return parts


def _entries(file: Path) -> list[LabelledQuestion]:
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file}: '{file.suffix}' is not a format read here; give one of {', '.join(SUFFIXES)}")
    entries = [_entry(row, f"{file}: {place}") for place, row in read(file, within="examples")]
    if not entries:
        raise ValueError(f"{file}: holds no question; leave the file out or fill it")
    return entries


def _entry(row: Any, where: str) -> LabelledQuestion:
    """Parse a row of any of the formats. Raise ValueError for an invalid one."""
    if isinstance(row, BadLine):
        raise ValueError(f"{where}: {row}")
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} is a {type(row).__name__}; write an object with question and answer")
    big_bench = "target_scores" in row
    question = row.get("input" if big_bench else "question")
    if not isinstance(question, str) or not (key := plain(question)):
        raise ValueError(f"{where} has the question {question!r}; write it as text")
    answer = _answer(_best(row["target_scores"]) if big_bench else row.get("answer"), where)
    given = row.get("target" if big_bench else "rationale") or ""
    if not isinstance(given, str):
        raise ValueError(f"{where} has the rationale {given!r}; write it as text")
    rationale = re.sub(r"^\s*(?:yes|no)\s*[.,:]\s*", "", given, flags=re.IGNORECASE) if big_bench else given.strip()
    item = Item(_texts(row, "facts", where), _texts(row, "decomposition", where), rationale.strip())
    return LabelledQuestion(key, question.strip(), answer, item)


def _best(scores: Any) -> Any:
    """Return the only answer of a BIG-bench row with the score 1."""
    right = [name for name, score in scores.items() if score == 1] if isinstance(scores, Mapping) else []
    return right[0] if len(right) == 1 else scores


def _answer(value: Any, where: str) -> str:
    if value is None:
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
