"""Which columns of a user's rows are the question, the answer and the choices, and what a cell says as text.

A column is named, or a template joins several: `{context} {question}`. A name with dots leads into a cell that holds an
object or a list: `question.stem`, `answers.text.0`. An unusable row raises BadRow; `data.py` adds its place.
"""

from __future__ import annotations

import ast
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.bad_input import BadInput
from trainables.tasks.files.marks import preferences

PROMPTS = ("question", "prompt", "instruction", "input", "query", "problem", "request", "text", "sentence", "inputs")
CONTEXTS = ("context", "passage", "article", "paragraph", "body", "background")  # before a question
ANSWERS = (
    "answer",
    "response",
    "output",
    "completion",
    "target",
    "label",
    "answerkey",
    "solution",
    "reply",
    "expected",
    "targets",
)
CHOICES = ("choices", "options", "candidates", "multiplechoicetargets")
ONE_CHOICE = re.compile(r"(?:choice|option)s?([a-z]|\d{1,2})|[abcd]")  # one of several columns of choices
PLACE = re.compile(r"\{([^{}]+)\}")  # of a column in a template
SHOWN = 20  # columns in a message
TURNS = {"messages", "conversations"}  # columns of conversations
LISTING = "choices"  # the place of the choices in a template
ESCAPES = {r"\n": "\n", r"\t": "\t"}  # as a shell passes them on


class BadRow(BadInput):
    """A row is no question with an answer; the message is one line, without the row's place."""


@dataclass(frozen=True)
class Choice:
    label: str  # what a model answers: A, B ...
    text: str


@dataclass(frozen=True)
class Columns:
    """Templates of the question and of the answer, and the columns that hold the choices."""

    prompt: str
    answer: str
    choices: tuple[str, ...]

    @classmethod
    def find(
        cls, names: Sequence[str], prompt: str, answer: str, choices: tuple[str, ...], may_have_choices: bool
    ) -> Columns:
        """Complete what is given (empty: not) by usual names. Raise ValueError that lists the columns there are."""
        known = {re.sub(r"[\W_]", "", name.lower()): name for name in reversed(names)}
        answer = _template(answer, names, "answer") or _usual(known, ANSWERS, names, "answer")
        prompt = _template(prompt, names, "prompt") or _usual_prompt(known, answer, names)
        for name in choices:
            _check(name, names, "choices")
        if not choices and may_have_choices:
            choices = _usual_choices(known, answer)
        return cls(prompt, answer, choices)

    def in_words(self) -> list[str]:
        shown = {"prompt": _in_words(self.prompt), "answer": _in_words(self.answer), "choices": ", ".join(self.choices)}
        return [f"{name}: {what}" for name, what in shown.items() if what]

    def names(self) -> list[str]:
        """Return the columns that are read."""
        named = [*PLACE.findall(self.prompt + self.answer), *self.choices]
        return [*named, *(name.partition(".")[0] for name in named)]

    def texts(self, row: Mapping[str, Any]) -> tuple[str, str, tuple[Choice, ...]]:
        """Return a row's prompt with its choices, its answer as it is written there, and the choices."""
        choices = _choices(row, self.choices)
        listing = "\n".join(f"{choice.label}. {choice.text}" for choice in choices)
        prompt = _filled(self.prompt, row, listing)
        if listing and f"{{{LISTING}}}" not in self.prompt:
            prompt = f"{prompt}\n{listing}"
        return prompt, _filled(self.answer, row, listing), choices


def text_of(value: Any, name: str) -> str:
    """Return a cell as text; empty if nothing is in it. Raise BadRow for an object, and for a list of several."""
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list) and len(value) == 1:
        return text_of(value[0], name)
    if isinstance(value, list | Mapping):
        inner = f"{name}.{next(iter(value), 'NAME')}" if isinstance(value, Mapping) else f"{name}.0"
        kind = "an object" if isinstance(value, Mapping) else f"a list of {len(value)}"
        raise BadRow(f"column {name!r} holds {kind}; name a part of it, such as {inner}")
    return str(value)


def cell(row: Mapping[str, Any], name: str) -> Any:
    """Return what a column holds, or a part of it if the name has dots; None if it is not there."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _template(given: str, names: Sequence[str], what: str) -> str:
    """Return a template of what the user gave: itself, or a column's name in braces."""
    if not given:
        return ""
    for escaped, meant in ESCAPES.items():
        given = given.replace(escaped, meant)
    template = f"{{{given}}}" if given in names or "{" not in given else given
    for name in PLACE.findall(template):
        if name != LISTING:
            _check(name, names, what)
    return template


def _check(name: str, names: Sequence[str], what: str) -> None:
    if name not in names and name.partition(".")[0] not in names:
        raise ValueError(f"{what} names the column {name!r}; columns are {_listed_names(names)}")


def _usual(known: Mapping[str, str], usual: Sequence[str], names: Sequence[str], what: str) -> str:
    if found := next((known[name] for name in usual if name in known), None):
        return f"{{{found}}}"
    if told := preferences(names):
        raise ValueError(told)
    remedy = f"give its name, --task.{what} COLUMN"
    if TURNS & {*known}:
        remedy = f"conversations are for sweeps/style.py, or {remedy}"
    raise ValueError(f"which column is the {what}? Columns are {_listed_names(names)}; {remedy}")


def _listed_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if names[SHOWN:] else ""
    return f"{', '.join(names[:SHOWN]) or '(none)'}{more}"


def _usual_prompt(known: Mapping[str, str], answer: str, names: Sequence[str]) -> str:
    """Return the question's column, behind that of its context; an instruction is followed by its input."""
    left = {short: name for short, name in known.items() if f"{{{name}}}" not in answer}
    first = _usual(left, PROMPTS, names, "prompt")
    context = next((left[name] for name in CONTEXTS if name in left), None)
    if context:
        return f"{{{context}}}\n{first}"
    if first == f"{{{left.get('instruction')}}}" and "input" in left:
        return f"{first}\n\n{{{left['input']}}}"
    return first


def _usual_choices(known: Mapping[str, str], answer: str) -> tuple[str, ...]:
    left = {short: name for short, name in known.items() if f"{{{name}}}" not in answer}
    if found := next((left[name] for name in CHOICES if name in left), None):
        return (found,)
    several = sorted(short for short in left if ONE_CHOICE.fullmatch(short))
    return tuple(left[short] for short in several) if len(several) > 1 else ()


def _in_words(template: str) -> str:
    alone = PLACE.fullmatch(template)
    return f"column {alone[1]!r}" if alone else repr(template)


def _filled(template: str, row: Mapping[str, Any], listing: str) -> str:
    def text(place: re.Match[str]) -> str:
        name = place[1]
        return listing if name == LISTING and listing else text_of(cell(row, name), name)

    return PLACE.sub(text, template).strip()


def _choices(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[Choice, ...]:
    """Read choices from one column with a list (of texts, or of labels and texts), or from several columns."""
    if not columns:
        return ()
    labels: list[str] = []
    if len(columns) > 1:
        texts = [text_of(cell(row, name), name) for name in columns]
        texts = [text for text in texts if text]
    else:
        labels, texts = _listed(cell(row, columns[0]), columns[0])
    if len(texts) < 2 or not all(texts):
        raise BadRow(f"choices {', '.join(columns)} hold {len(texts)} texts; give two or more, and no empty one")
    if len(texts) > len(string.ascii_uppercase):
        raise BadRow(f"{len(texts)} choices; give at most {len(string.ascii_uppercase)}")
    return tuple(map(Choice, labels or string.ascii_uppercase, texts))


def _listed(value: Any, name: str) -> tuple[list[str], list[str]]:
    """Return the labels (none: A, B ...) and texts of a list of choices. In a table, the list is written as text."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise BadRow(f'column {name!r} holds {value[:40]!r}; write a list, ["one", "two"]') from error
    if isinstance(value, Mapping):  # CommonsenseQA on the hub: {"label": [...], "text": [...]}
        labels, texts = ([*(value.get(part) or ())] for part in ("label", "text"))
        if len(labels) != len(texts):
            raise BadRow(f"column {name!r} holds {len(labels)} labels and {len(texts)} texts; give each text a label")
        value = [{"label": label, "text": text} for label, text in zip(labels, texts, strict=True)]
    if not isinstance(value, list):
        raise BadRow(f"column {name!r} holds no list of choices but {type(value).__name__}")
    if value and all(isinstance(one, Mapping) for one in value):
        texts = [text_of(one.get("text"), name) for one in value]
        return [text_of(one.get("label"), name) for one in value], texts
    return [], [text_of(one, name) for one in value]
