"""Read the turns of a conversation: lists of objects in the spellings of chat and ShareGPT data.

An unusable turn raises `BrokenRow` with the reason and the remedy. What is not read is counted in `Notes`.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.core import Message
from trainables.tasks.files.marks import LEARNED, MASKED, filled, is_learned, not_read, unread

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
}
CALLS = "function_call"  # ShareGPT's role of an assistant turn that calls a function
ROLE_KEYS, TEXT_KEYS = ("role", "from"), ("content", "value")
TOOL_KEYS = ("tool_calls", "tool_call_id", "name", "function_call")  # what chat templates read of tool turns
TEXT_PARTS = ("text", "input_text", "output_text")  # types of the parts of a text


class BrokenRow(ValueError):
    """A row is no valid conversation; the message is one line, without the row's place."""


@dataclass
class Notes:
    """What is not read, and what is left out, with how often: it is said before anything starts."""

    columns: Counter[str] = field(default_factory=Counter)  # rows by column
    keys: Counter[str] = field(default_factory=Counter)  # turns by key
    left_out: Counter[str] = field(default_factory=Counter)  # rows by reason
    unlearned: int = 0  # assistant turns that are read and not learned
    unanswered: int = 0  # turns behind the last reply that is learned

    def lines(self) -> list[str]:
        lines = [f"left out: {count:,} rows {reason}" for reason, count in self.left_out.items()]
        if self.unlearned:
            lines.append(f"not learned: {self.unlearned:,} assistant turns that the data marks so; they are only read")
        if self.unanswered:
            lines.append(f"left out: {self.unanswered:,} turns behind the last reply that is learned")
        lines += not_read(self.columns)
        if self.keys:
            counts = ", ".join(f"{name!r} ({count:,} turns)" for name, count in self.keys.most_common())
            lines.append(f"not read: keys of turns {counts}")
        return lines


def turns_of(value: Any, column: str, notes: Notes) -> list[Message]:
    """Read a list of turns, or such a list as JSON text. Raise BrokenRow."""
    turns = listed(value, column)
    if not turns:
        raise BrokenRow(f"column '{column}' is an empty list; give at least a user and an assistant turn")
    return [_turn(turn, f"turn {place}", notes) for place, turn in enumerate(turns, 1)]


def listed(value: Any, column: str) -> list[Any]:
    """Return a list, or the list that a text holds: tables have it as JSON, or as Python writes it."""
    found = value
    if isinstance(value, str):
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(value)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if not isinstance(found, list):
        what = "holds a text that is no JSON" if isinstance(found, str) else f"is of type {type(found).__name__}"
        raise BrokenRow(f'column \'{column}\' {what}; write a list of turns, [{{"role": ..., "content": ...}}, ...]')
    return found


def text_of(value: Any, where: str, empty: bool = False) -> str:
    """Return a text, or the text parts of a list, a line each. Raise BrokenRow for anything else."""
    if isinstance(value, list):
        value = "\n".join(_part(part, where) for part in value)
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise BrokenRow(f"{where} is of type {type(value).__name__}; only text can be learned, write a string")
    if not empty and not value.strip():
        raise BrokenRow(f"{where} is empty; fill it or remove the row")
    return value


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type", "text") in TEXT_PARTS and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise BrokenRow(f"{where} has a part of type {kind}; only text can be learned, remove the row")


def _turn(turn: Any, where: str, notes: Notes) -> Message:
    role_key, text_key = _key(turn, ROLE_KEYS), _key(turn, TEXT_KEYS)
    tools = {name: turn[name] for name in TOOL_KEYS if filled(turn.get(name))} if isinstance(turn, Mapping) else {}
    if not role_key or not (text_key or tools):
        raise BrokenRow(f"{where} is not an object of 'role' and 'content', or 'from' and 'value'; give both")
    said = str(turn[role_key]).strip().lower()
    role = "assistant" if said == CALLS else ROLES.get(said)
    if role is None:
        raise BrokenRow(f"{where} has the role {turn[role_key]!r}; write system, user, assistant or tool")
    if said == CALLS:
        tools[CALLS] = turn[text_key]
    if role in ("system", "user") or (role == "assistant" and tools.keys() <= {"name"}):
        tools = {}
    content = text_of(turn.get(text_key), f"{where} ({role})", empty=bool(tools))
    try:
        learned = is_learned(turn)
    except ValueError as fault:
        raise BrokenRow(f"{where} ({role}): {fault}") from fault
    marks = (*LEARNED, *MASKED) if role == "assistant" or not learned else ()  # other turns are never learned
    notes.keys.update(unread(turn, (role_key, text_key, *marks, *tools)))
    return Message(role, content, learned or role != "assistant", json.dumps(tools, default=str) if tools else "")


def _key(turn: Any, names: Sequence[str]) -> str:
    return next((name for name in names if isinstance(turn, Mapping) and name in turn), "")
