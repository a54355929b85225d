"""Load a user's questions: a file, a folder of files, or a data set of the hub, as splits.

The split is what a column says, else what the names of files or of the hub's parts say, else a hash of the question, or
of its group, decides: then it never depends on the other rows. If only one of validation and test is given, it is the
test split, and a part of train becomes the search split. Every fault raises a ValueError of one line that names the
file and the row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from trainables.checks.near_duplicates import plain
from trainables.core import Split
from trainables.tasks.files.marks import mark_columns, not_read, unlearned, unread
from trainables.tasks.files.records import HUB, SUFFIXES, BadLine
from trainables.tasks.files.source import Part, parts_of
from trainables.tasks.files.splits import Official, hash_fraction, split_column, splits_in_column, splits_of
from trainables.tasks.own.columns import BadRow, Choice, Columns, cell, text_of

SEARCH_SHARE, TEST_SHARE = 0.2, 0.2  # of rows that state no split; the first also of a train split without validation
WITHIN = "data"  # the list that is read of a .json file that holds an object
SHOWN = 3  # places in a message


@dataclass(frozen=True)
class Question:
    """A row as the task uses it."""

    place: str  # "my.csv line 17"
    prompt: str
    answer: str  # what a model shall say: of a choice its label
    choices: tuple[Choice, ...]
    columns: Mapping[str, Any]  # all of the row
    key: str  # of its group, or of its prompt: equal ones are never in two splits


class Source(NamedTuple):
    """Where questions are, and the columns that the user named; empty: not."""

    data: str
    prompt: str = ""
    answer: str = ""
    choices: tuple[str, ...] = ()
    may_have_choices: bool = True  # whether a column of choices is looked for
    split_by: str = ""
    group: str = ""


@dataclass(frozen=True)
class Loaded:
    """The questions by split, and lines that say what was found and what is left out."""

    splits: Mapping[Split, tuple[Question, ...]]
    lines: tuple[str, ...]


@lru_cache(maxsize=4)
def load(source: Source) -> Loaded:
    """Raise ValueError in one line for unreadable files, unknown columns, and the first broken row."""
    if not source.data:
        raise ValueError(
            f"there is no data; give --data with a {', '.join(SUFFIXES)} file, a folder or {HUB}OWNER/NAME"
        )
    parts, unread_files = parts_of(source.data, WITHIN)
    if empty := [part.where for part in parts if not part.rows]:
        raise ValueError(
            f"{empty[0]}: holds no rows; give at least one question with its answer, or leave the file out"
        )
    names = [*dict.fromkeys(name for part in parts for _, row in part.rows if isinstance(row, Mapping) for name in row)]
    columns = Columns.find(names, *source[1:5])
    for what, name in (("split", source.split_by), ("group", source.group)):
        if name and name not in names:
            raise ValueError(f"{what} names the column {name!r}; columns are {', '.join(names)}")
    used = {*columns.names(), *filter(None, (source.split_by, source.group))}
    read_parts = [(part, _questions(part, columns, source.group)) for part in parts]
    unanswered = [part.name for part, own in read_parts if own and not any(one.answer for one in own)]
    marked, read_parts = _without_marked(read_parts, used)
    kept = [(part, own) for part, own in read_parts if part.name not in unanswered]
    _check_answers([one for _, own in kept for one in own], source.data, marked)
    said, stated = _said(kept, source.split_by or split_column(names), bool(source.split_by))
    divided, how = _divided(_labelled(said), source, stated)
    splits, lines = _unique(divided)
    left_out = [f"left out: {name}, in which no row has an answer" for name in unanswered]
    left_out += [*marked, *unread_files, *_unread_columns(kept, used)]
    counts = ", ".join(f"{split} {len(splits[split]):,}" for split in ("train", "search", "test"))
    found = [*columns.in_words(), f"splits {how}: {counts}"]
    return Loaded(splits, (f"{source.data}: {'; '.join(found)}", *left_out, *lines))


def _questions(part: Part, columns: Columns, group: str) -> list[Question]:
    made: list[Question] = []
    faults: list[str] = []
    for place, row in part.rows:
        where = f"{part.name} {place}"
        try:
            if isinstance(row, BadLine):
                raise BadRow(str(row))
            if not isinstance(row, Mapping):
                raise BadRow(f"is a {type(row).__name__}; write an object with named columns")
            prompt, answer, choices = columns.texts(row)
            if not plain(prompt):
                raise BadRow("the prompt is empty; fill it or remove the row")
            of_group = text_of(row.get(group), group) if group else ""
            owner = f"group {of_group}" if of_group else plain(prompt)  # a row without a group is its own
            key = hashlib.sha256(owner.encode()).hexdigest()[:16]
            made.append(Question(where, prompt, answer, choices, row, key))
        except BadRow as fault:
            faults.append(f"{where}: {fault}")
    if faults:
        raise ValueError(faults[0] + (f" (and {len(faults) - 1} more broken rows)" if faults[1:] else ""))
    return _with_labels(made)


def _without_marked(
    parts: Sequence[tuple[Part, list[Question]]], used: Iterable[str]
) -> tuple[list[str], list[tuple[Part, list[Question]]]]:
    """Return the parts without rows that the data marks as not to be learned, and a line that says so."""
    rows = [one.columns for _, own in parts for one in own]
    marks = unlearned(rows, mark_columns(rows, used))
    places, kept, start = list[str](), list[tuple[Part, list[Question]]](), 0
    for part, own in parts:
        places += [one.place for place, one in enumerate(own, start) if place in marks]
        kept.append((part, [one for place, one in enumerate(own, start) if place not in marks]))
        start += len(own)
    said = " or ".join(dict.fromkeys(marks.values()))
    return [f"left out: {count_of(places)} that the data marks so ({said})"] if places else [], kept


def _unread_columns(parts: Iterable[tuple[Part, list[Question]]], used: Iterable[str]) -> list[str]:
    rows = [one.columns for _, own in parts for one in own]
    split = split_column([*dict.fromkeys(name for row in rows for name in row)])
    stated = [split] if splits_in_column([str(row.get(split)) for row in rows]) else []
    known = (*used, *stated, *mark_columns(rows, used))
    return not_read(Counter(name for row in rows for name in unread(row, known)))


def _with_labels(questions: list[Question]) -> list[Question]:
    """Return questions whose answers are labels of their choices: rows may also give a choice's text or its number."""
    numbers = {one.answer for one in questions if one.answer not in {choice.label for choice in one.choices}}
    first = 0 if "0" in numbers else 1
    return [replace(one, answer=_label(one, first)) if one.choices and one.answer else one for one in questions]


def _label(one: Question, first: int) -> str:
    same = [choice.label for choice in one.choices if one.answer in (choice.label, choice.text)]
    if not same and one.answer.isdecimal() and 0 <= int(one.answer) - first < len(one.choices):
        return one.choices[int(one.answer) - first].label
    if not same:
        known = ", ".join(choice.label for choice in one.choices)
        raise ValueError(f"{one.place}: the answer {one.answer[:40]!r} is no choice; give one of {known}, or its text")
    return same[0]


def _check_answers(questions: Sequence[Question], data: str, marked: Sequence[str]) -> None:
    if not questions and marked:
        raise ValueError(f"data='{data}' has no question to learn; {marked[0]}: remove the mark from some")
    if not questions:
        raise ValueError(f"data='{data}': no row has an answer; name the column, --task.answer COLUMN")
    if empty := [one.place for one in questions if not one.answer]:
        raise ValueError(f"{places(empty)} {'have' if empty[1:] else 'has'} no answer; fill it or remove the row")


def _said(
    parts: Iterable[tuple[Part, list[Question]]], column: str, asked: bool
) -> tuple[list[tuple[Official | None, Question]], str]:
    """Return each question with the split that a column or its file's name states, and which of them does, in words.

    A column that the user did not name (`asked`) counts only if it states a split in every row.
    """
    rows, by_name = [(part.split, one) for part, own in parts for one in own], "as they are stated"
    if not column:
        return rows, by_name
    values = [text_of(cell(one.columns, column), column) for _, one in rows]
    kinds = [*dict.fromkeys(values)]
    try:
        splits = splits_of(kinds, f"write train, validation or test into the column {column!r}")
    except ValueError:
        if asked:
            raise
        return rows, by_name
    if splits is None:
        if asked:
            raise ValueError(
                f"split names the column {column!r}, which holds {', '.join(map(repr, kinds[:5]))}; it needs"
                " train, validation and test"
            )
        return rows, by_name
    official = dict(zip(kinds, splits, strict=True))
    return [
        (official[value], one) for value, (_, one) in zip(values, rows, strict=True)
    ], f"as column {column!r} states"


def _labelled(rows: Iterable[tuple[Official | None, Question]]) -> dict[Official | None, list[Question]]:
    found: dict[Official | None, list[Question]] = {}
    for split, one in rows:
        found.setdefault(split, []).append(one)
    return found


def _divided(
    parts: Mapping[Official | None, list[Question]], source: Source, stated: str
) -> tuple[dict[Split, list[Question]], str]:
    """Return the splits, test first, and how they were found; `stated`: what states those that are, in words."""
    by_hash = f"by a hash of {'the group' if source.group else 'the prompt'}"
    splits: dict[Split, list[Question]] = {"test": [], "search": [], "train": []}
    if parts.keys() <= {None}:
        for one in parts.get(None, []):
            place = hash_fraction(one.key)
            late: Split = "test" if place < SEARCH_SHARE + TEST_SHARE else "train"
            splits["search" if place < SEARCH_SHARE else late].append(one)
        return splits, by_hash
    if "train" not in parts:
        raise ValueError(f"data='{source.data}' states {' and '.join(map(str, parts))} and no train split; add one")
    if "test" in parts and "validation" in parts:
        return {"test": parts["test"], "search": parts["validation"], "train": parts["train"]}, stated
    if asked := parts.get("test") or parts.get("validation"):
        splits["test"] = asked
        for one in parts["train"]:
            splits["search" if hash_fraction(one.key) < SEARCH_SHARE else "train"].append(one)
        return splits, f"{stated}, and search from train {by_hash}"
    return _divided({None: parts["train"]}, source, stated)


def _unique(splits: Mapping[Split, Sequence[Question]]) -> tuple[dict[Split, tuple[Question, ...]], list[str]]:
    """Return each question once, in test before search before train; a question with several answers has its first."""
    answers: dict[str, str] = {}
    repeated: list[str] = []
    others: list[str] = []
    kept: dict[Split, list[Question]] = {split: [] for split in splits}
    for split, own in splits.items():
        for one in own:
            if one.prompt not in answers:
                answers[one.prompt] = one.answer
                kept[split].append(one)
            else:
                (repeated if answers[one.prompt] == one.answer else others).append(one.place)
    lines = [f"left out: {count_of(repeated)} that repeat a question and its answer"] if repeated else []
    lines += [f"left out: {count_of(others)} that give another answer to an earlier question"] if others else []
    return {split: tuple(own) for split, own in kept.items()}, lines


def places(found: Sequence[str]) -> str:
    """Return the first places, and how many more there are."""
    more = f" and {len(found) - SHOWN:,} more" if found[SHOWN:] else ""
    return ", ".join(found[:SHOWN]) + more


def count_of(found: Sequence[str]) -> str:
    """Return the number of rows, and where the first of them are."""
    return f"{len(found):,} {'rows' if found[1:] else 'row'} ({places(found)})"


def without(loaded: Loaded, left_out: Sequence[str]) -> dict[Split, tuple[Question, ...]]:
    """Return the splits without the rows at these places. Raise ValueError for a place that is not there."""
    there = {one.place for own in loaded.splits.values() for one in own}
    if unknown := [place for place in left_out if place not in there]:
        raise ValueError(f"no row is at {unknown[0]!r}; a place is written as {min(there)!r}")
    gone = {*left_out}
    return {split: tuple(one for one in own if one.place not in gone) for split, own in loaded.splits.items()}
