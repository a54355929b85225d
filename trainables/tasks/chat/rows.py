"""The type `Conversation`, and its parsing from rows of data sets in chat, ShareGPT and Alpaca layouts.

Sources: chat rows as TRL takes them (https://huggingface.co/docs/trl/dataset_formats), ShareGPT's `conversations`, and
Stanford Alpaca's `instruction, input, output` (Taori et al. 2023). An unusable row raises `BrokenRow` with the
reason and the remedy; `data.py` adds the file and the row's number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from trainables.checks.near_duplicates import plain

ROLES = ("system", "user", "assistant")
SHAREGPT_ROLES = {"system": "system", "human": "user", "gpt": "assistant"}


class BrokenRow(ValueError):
    """A row is no valid conversation; the message is one line, without the row's place."""


class Message(NamedTuple):
    """One turn, as a chat template takes it (`message._asdict()`)."""

    role: str
    content: str


class PromptAndReply(NamedTuple):
    """One assistant turn and all messages before it."""

    before: tuple[Message, ...]
    reply: str

    @property
    def prompt(self) -> str:
        """The messages before: the text of a single one, else a line `role: text` for each."""
        before = self.before
        return before[0].content if len(before) == 1 else "\n".join(f"{role}: {text}" for role, text in before)


@dataclass(frozen=True)
class Conversation:
    """An optional system message, then user and assistant turns alternating; the last turn is the assistant's."""

    messages: tuple[Message, ...]
    layout: str = field(default="chat", compare=False)  # of the file it came from

    @cached_property
    def key(self) -> str:
        """A hash of the user's messages as `plain` text, in which guards compare prompts."""
        return _hash(*self._user_texts)

    @cached_property
    def opening(self) -> str:
        """A hash of the user's first message. Rows that are beginnings of one conversation share it."""
        return _hash(self._user_texts[0])

    @property
    def _user_texts(self) -> list[str]:
        return [m.content for m in self.messages if m.role == "user"]

    @property
    def turns(self) -> tuple[PromptAndReply, ...]:
        """All assistant turns, in order; a learner may put its loss on them."""
        spoken = enumerate(self.messages)
        return tuple(PromptAndReply(self.messages[:place], m.content) for place, m in spoken if m.role == "assistant")

    @property
    def prompt(self) -> str:
        """The prompt of the last turn."""
        return self.turns[-1].prompt

    @property
    def answer(self) -> str:
        return self.messages[-1].content


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(map(plain, texts)).encode()).hexdigest()[:16]


class Layout(NamedTuple):
    """The columns by which a layout is recognised, and the function that reads a row."""

    columns: tuple[str, ...]  # that every row has
    messages: Callable[[Mapping[str, Any]], list[Message]]


def _chat(row: Mapping[str, Any]) -> list[Message]:
    return _listed(row["messages"], "messages", "role", "content", {role: role for role in ROLES})


def _sharegpt(row: Mapping[str, Any]) -> list[Message]:
    return _listed(row["conversations"], "conversations", "from", "value", SHAREGPT_ROLES)


def _alpaca(row: Mapping[str, Any]) -> list[Message]:
    names = ("system", "instruction", "input", "output")
    parts = {name: "" if row.get(name) is None else row[name] for name in names}
    for name, text in parts.items():
        _check_text(text, f"column '{name}'", empty=name in ("system", "input"))
    asked = "\n\n".join(part for part in (parts["instruction"], parts["input"]) if part.strip())
    system = [Message("system", parts["system"])] if parts["system"].strip() else []
    return [*system, Message("user", asked), Message("assistant", parts["output"])]


LAYOUTS = {
    "chat": Layout(("messages",), _chat),
    "sharegpt": Layout(("conversations",), _sharegpt),
    "alpaca": Layout(("instruction", "output"), _alpaca),
}


def layout_of(row: Any) -> str:
    """Return the name of the layout whose columns a row has."""
    columns = _columns(row)
    for name, layout in LAYOUTS.items():
        if columns >= set(layout.columns):
            return name
    known = "messages (chat), conversations (ShareGPT), or instruction and output (Alpaca)"
    raise BrokenRow(f"columns {', '.join(sorted(columns)) or '(none)'} are no known layout; name them {known}")


def conversation(row: Any, layout: str) -> Conversation:
    """Return a row as a conversation. Messages after the last assistant turn are dropped, because they have no
    reply."""
    missing = set(LAYOUTS[layout].columns) - _columns(row)
    if missing:
        raise BrokenRow(f"no column '{min(missing)}'; every {layout} row needs it")
    messages = LAYOUTS[layout].messages(row)
    replies = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if not replies:
        raise BrokenRow("no assistant turn, so there is nothing to learn; add the answer or remove the row")
    kept = tuple(messages[: replies[-1] + 1])
    _check_order(kept)
    return Conversation(kept, layout)


def _check_order(messages: Sequence[Message]) -> None:
    """Raise BrokenRow for an order that chat templates of many models refuse (Llama 2, Mistral, Gemma)."""
    previous = ""
    for place, (role, _) in enumerate(messages, 1):
        if role == "system" and place > 1:
            raise BrokenRow(f"turn {place} is a system message; only the first turn may be one, move it there")
        if role == "assistant" and previous in ("", "system"):
            raise BrokenRow("the assistant speaks before the user; begin with a user turn")
        if role == previous:
            raise BrokenRow(f"turns {place - 1} and {place} are both {role}; join them into one")
        previous = role


def _columns(row: Any) -> set[str]:
    if not isinstance(row, Mapping):
        raise BrokenRow(f"of type {type(row).__name__}, not an object; write one object per row")
    return set(row)


def _listed(turns: Any, column: str, role_name: str, text_name: str, roles: Mapping[str, str]) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise BrokenRow(f"column '{column}' is no list of turns or empty; give at least a user and an assistant turn")
    messages = []
    for place, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or not {role_name, text_name} <= turn.keys():
            raise BrokenRow(f"turn {place} is not an object of '{role_name}' and '{text_name}'; give both")
        role, text = turn[role_name], turn[text_name]
        if not isinstance(role, str) or role not in roles:
            *most, last = roles
            raise BrokenRow(f"role {role!r} is not {', '.join(most)} or {last}; rename it or remove the row")
        _check_text(text, f"turn {place} ({role})")
        messages.append(Message(roles[role], text))
    return messages


def _check_text(text: Any, where: str, empty: bool = False) -> None:
    if not isinstance(text, str):
        raise BrokenRow(f"{where} is of type {type(text).__name__}; only text can be learned, write a string")
    if not empty and not text.strip():
        raise BrokenRow(f"{where} is empty; fill it or remove the row")
