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

from trainables.bad_input import BadInput
from trainables.core import Message
from trainables.tasks.files.marks import MASKED, OF_TURNS, PARTS, filled, is_learned, lower_case, not_read, unread

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
}
CALLS = "function_call"  # ShareGPT's role of an assistant turn that calls a function
ROLE_KEYS, TEXT_KEYS = ("role", "from"), ("content", "value", "text")
TOOL_KEYS = {"assistant": ("tool_calls", CALLS), "tool": ("tool_call_id", "name")}  # what chat templates read
ARGUMENT_KEYS = ("arguments", "parameters")  # of a call
KEYS = (*ROLE_KEYS, *TEXT_KEYS, *OF_TURNS, *MASKED, *PARTS, *TOOL_KEYS["assistant"], *TOOL_KEYS["tool"])
TEXT_PARTS = ("text", "input_text", "output_text")  # types of the parts of a text


class BrokenRow(BadInput):
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


def text_of(value: Any, where: str, notes: Notes, empty: bool = False, learned: bool = False) -> str:
    """Return a text, or the text parts of a list, a line each. Raise BrokenRow for anything else.

    `empty`: whether it may be empty; `learned`: whether it is learned, so that no part may be marked.
    """
    if isinstance(value, list):
        value = "\n".join(_part(part, where, notes, learned) for part in value)
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise BrokenRow(f"{where} is of type {type(value).__name__}; only text can be learned, write a string")
    if not empty and not value.strip():
        raise BrokenRow(f"{where} is empty; fill it or remove the row")
    return value


def _part(part: Any, where: str, notes: Notes, learned: bool) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
        raise BrokenRow(f"{where} has a part of type {kind}; only text can be learned, remove the row")
    if learned and not _is_learned(part, where):
        raise BrokenRow(f"{where} has a part that is not to be learned; only whole turns are read, mark the turn")
    marks = (*OF_TURNS, *MASKED) if learned else ()
    notes.keys.update(f"parts: {key}" for key in unread(part, ("type", "text", *marks)))
    return part["text"]


def _is_learned(marked: Mapping[str, Any], where: str) -> bool:
    try:
        return is_learned(marked, OF_TURNS)
    except ValueError as fault:
        raise BrokenRow(f"{where}: {fault}") from fault


def _turn(given: Any, where: str, notes: Notes) -> Message:
    turn = lower_case(given, KEYS)
    role_key, text_key = _key(turn, ROLE_KEYS), _key(turn, TEXT_KEYS)
    if not role_key or not (text_key or any(filled(decoded(turn.get(name))) for name in TOOL_KEYS["assistant"])):
        raise BrokenRow(f"{where} is not an object of 'role' and 'content', or 'from' and 'value'; give both")
    said = str(turn[role_key]).strip().lower()
    role = "assistant" if said == CALLS else ROLES.get(said)
    if role is None:
        raise BrokenRow(f"{where} has the role {turn[role_key]!r}; write system, user, assistant or tool")
    where, keys = f"{where} ({role})", TOOL_KEYS.get(role, ())
    tools = {name: turn[name] for name in keys if filled(decoded(turn.get(name)))}
    learned = _is_learned(turn, where)
    marks = (*OF_TURNS, *MASKED) if role == "assistant" or not learned else ()  # other turns are never learned
    notes.keys.update(unread(turn, (role_key, text_key, *marks, *keys)))
    if said == CALLS and not tools:
        tools, text_key = {CALLS: turn[text_key]}, ""
    may_be_empty = bool(tools) or role == "tool"
    content = text_of(turn.get(text_key), where, notes, may_be_empty, learned and role == "assistant")
    if role == "assistant" and tools:
        tools = {"tool_calls": [call for value in tools.values() for call in _calls(value, where, notes)]}
    more = json.dumps(tools, default=str) if tools else ""
    return Message(role, content, learned or role != "assistant", more)


def _calls(value: Any, where: str, notes: Notes) -> list[dict[str, Any]]:
    """Return calls of tools as chat templates read them; a call and its arguments may be JSON text."""
    found = decoded(value)
    return [_call(decoded(one), where, notes) for one in (found if isinstance(found, list) else [found])]


def _call(one: Any, where: str, notes: Notes) -> dict[str, Any]:
    function = one.get("function", one) if isinstance(one, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BrokenRow(f'{where} calls a tool without a name; write {{"name": ..., "arguments": {{...}}}}')
    key = next((name for name in ARGUMENT_KEYS if filled(function.get(name))), ARGUMENT_KEYS[0])
    given = function.get(key) or {}
    arguments = decoded(given) if isinstance(given, str) else _without_empty(given)  # no table adds keys to a text
    if not isinstance(arguments, Mapping):
        raise BrokenRow(f"{where}: the arguments of {function['name']} are no JSON object; repair or remove the row")
    read = ("id", "type", "function", "name", key)
    notes.keys.update(f"calls: {name}" for name in unread({**one, **function}, read))
    known = {"id": one["id"]} if filled(one.get("id")) else {}
    return {**known, "type": "function", "function": {"name": function["name"], "arguments": {**arguments}}}


def tools_of(value: Any, column: str) -> str:
    """Return what an assistant may call as a JSON list of schemas; empty if there is nothing. Raise BrokenRow."""
    found = decoded(value)
    if not filled(found):
        return ""
    schemas = []
    for place, one in enumerate(found if isinstance(found, list) else [found], 1):
        schema = decoded(one)
        if isinstance(schema, Mapping) and "type" in schema and not {"function", "name"} & {*schema}:
            schemas.append(_without_empty(schema))  # a tool that a service has built in
            continue
        function = schema.get("function", schema) if isinstance(schema, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            remedy = '[{"name": ..., "parameters": {...}}, ...]'
            raise BrokenRow(f"column '{column}': tool {place} has no name; write a list of JSON schemas, {remedy}")
        schemas.append({"type": "function", "function": _without_empty(function)})
    return json.dumps(schemas, default=str)


def _without_empty(value: Any) -> Any:
    """Leave out keys without a value: a table has the keys of all rows in every row."""
    if isinstance(value, Mapping):
        return {name: _without_empty(own) for name, own in value.items() if own is not None}
    return [_without_empty(own) for own in value] if isinstance(value, list) else value


def decoded(value: Any) -> Any:
    """Return the value of a JSON text; anything else as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _key(turn: Any, names: Sequence[str]) -> str:
    """Return the first of these keys that holds something, else the first that is there, else an empty text."""
    there = [name for name in names if isinstance(turn, Mapping) and name in turn]
    return next((name for name in there if filled(turn[name])), there[0] if there else "")
