"""The type `Conversation`, and its parsing from rows of data sets in chat, ShareGPT, Alpaca and pairs layouts.

Sources: chat rows as TRL takes them (https://huggingface.co/docs/trl/dataset_formats), ShareGPT's `conversations`,
Stanford Alpaca's `instruction, input, output` (Taori et al. 2023) with LLaMA-Factory's `system` and `history`, and two
columns such as `prompt` and `completion`. An unusable row raises `BrokenRow` with the reason and the remedy; `data.py`
adds the file and the row's number. What is left out or not read is counted in `Notes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from trainables.checks.near_duplicates import plain
from trainables.core import Message
from trainables.tasks.chat.turns import ROLE_KEYS, BrokenRow, Notes, decoded, listed, text_of, tools_of, turns_of
from trainables.tasks.files.marks import (
    LEARNED,
    MASKED,
    PARTS,
    filled,
    is_learned,
    mark_of,
    preferences,
    unread,
    unwanted,
)

TURNS = {"messages": "chat", "conversations": "sharegpt", "conversation": "sharegpt"}  # columns of turns -> layout
ASKED = ("instruction", "prompt", "question", "query", "user", "human", "inputs", "input")
SAID = ("output", "response", "completion", "answer", "assistant", "reply", "targets", "target")
MORE = ("input", "context")  # columns that go on after an instruction
SYSTEM = ("system", "system_prompt", "system_message")
HISTORY = "history"  # earlier pairs of question and answer
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
TOOLS = ("tools", "functions")  # what an assistant may call
OTHERS = (HISTORY, "label", *MEDIA, *TOOLS, *LEARNED, *MASKED, *PARTS)
READ = (*TURNS, *ASKED, *SAID, *MORE, *SYSTEM, *OTHERS)  # every column that means something


class PromptAndReply(NamedTuple):
    """A learned assistant turn and all messages before it."""

    before: tuple[Message, ...]
    reply: str

    @property
    def prompt(self) -> str:
        """The messages before: the text of a single one, else a line `role: text` for each."""
        before = self.before
        return before[0].text if len(before) == 1 else "\n".join(f"{one.role}: {one.text}" for one in before)


@dataclass(frozen=True)
class Conversation:
    """An optional system message, then user and assistant turns alternating; the last turn is a learned one
    of the assistant."""

    messages: tuple[Message, ...]
    layout: str = field(default="chat", compare=False)  # of the file it came from
    tools: str = ""  # a JSON list of what the assistant may call
    place: str = field(default="", compare=False)  # its file and row

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
        """The assistant turns that are learned, in order."""
        spoken = enumerate(self.messages)
        return tuple(PromptAndReply(self.messages[:place], m.text) for place, m in spoken if _is_reply(m))

    @property
    def prompt(self) -> str:
        """The prompt of the last turn."""
        return self.turns[-1].prompt

    @property
    def answer(self) -> str:
        return self.messages[-1].text

    @property
    def uses_tools(self) -> bool:
        """Whether a tool is offered, is called or answers."""
        return bool(self.tools) or any(one.more or one.role == "tool" for one in self.messages)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(map(plain, texts)).encode()).hexdigest()[:16]


def _is_reply(message: Message) -> bool:
    return message.role == "assistant" and message.learned


class Layout(NamedTuple):
    """A layout's name, and the columns by which it was recognised."""

    name: str
    asked: str  # of the turns, or of the question
    said: str = ""  # of the answer; empty: it is among the turns


def layout_of(row: Any) -> Layout:
    """Return the layout whose columns a row has; their letter case does not matter."""
    columns = {name.lower(): name for name in sorted(map(str, _columns(row)))}  # of `Prompt` and `prompt`, the second
    if turns := next((name for name in TURNS if name in columns), None):
        return Layout(TURNS[turns], columns[turns])
    asked, said = (next((name for name in names if name in columns), None) for names in (ASKED, SAID))
    if asked and said:
        return Layout("alpaca" if asked == "instruction" else "pairs", columns[asked], columns[said])
    if told := preferences(columns.values()):
        raise BrokenRow(told)
    known = "messages (chat), conversations (ShareGPT), instruction and output (Alpaca), or prompt and response"
    raise BrokenRow(f"columns {', '.join(sorted(columns.values())) or '(none)'} are no known layout; name them {known}")


def conversation(
    row: Any, layout: Layout, notes: Notes, known: Sequence[str] = (), place: str = ""
) -> Conversation | None:
    """Return a row as a conversation; None if it is left out.

    Messages after the last assistant turn that is learned are dropped, because they have no reply. `known`: columns
    that the caller reads; `place`: of the row, as messages name it.
    """
    missing = {layout.asked, layout.said} - {"", *_columns(row)}
    if missing:
        raise BrokenRow(f"no column '{min(missing)}'; every {layout.name} row needs it")
    if reason := _why_left_out(row, layout):
        notes.left_out[reason] += 1
        return None
    columns = {name: row.get(name) for name in _read_columns(row, layout)}
    turns = _pairs(columns, layout, notes) if layout.said else turns_of(columns[layout.asked], layout.asked, notes)
    messages = _with_system(columns, turns, notes)
    no_tools = [name for name in TOOLS if not filled(decoded(row.get(name)))]  # "[]" as a table has it
    notes.columns.update(unread(row, (*columns, *LEARNED, *MASKED, *no_tools, *known)))
    spoken = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if not spoken:
        nothing = "no assistant turn, so there is nothing to learn; add the answer or remove the row"
        raise BrokenRow(preferences(row) or nothing)
    replies = [place for place in spoken if messages[place].learned]
    kept = tuple(messages[: (replies or spoken)[-1] + 1])
    _check_order(kept)
    if not replies:
        notes.left_out["without an assistant turn that may be learned"] += 1
        return None
    notes.unlearned += sum(not messages[place].learned for place in spoken if place < len(kept))
    notes.unanswered += len(messages) - len(kept)
    tools = next((name for name in TOOLS if name in columns), "")
    return Conversation(kept, layout.name, tools_of(columns[tools], tools) if tools else "", place)


def _why_left_out(row: Mapping[str, Any], layout: Layout) -> str:
    try:
        if not is_learned(row):
            return f"that the data marks so ({mark_of(row)})"
    except ValueError as fault:
        raise BrokenRow(f"column {fault}") from fault
    if unwanted(row):
        return "with an answer that nobody wants (label: false)"
    if media := [name for name in MEDIA if filled(row.get(name))]:
        return f"with {media[0]}, of which only the text could be learned"
    return ""


def _read_columns(row: Mapping[str, Any], layout: Layout) -> list[str]:
    """Return the columns that hold a part of the conversation."""
    system = [name for name in SYSTEM if filled(row.get(name))][:1]
    tools = [name for name in TOOLS if filled(decoded(row.get(name)))][:1]
    around = [*system, *tools, *(["label"] if unwanted(row) is not None else [])]
    if not layout.said:
        return [layout.asked, *around]
    more = [name for name in MORE if filled(row.get(name))][:1] if layout.name == "alpaca" else []
    return [layout.asked, layout.said, *around, *more, *([HISTORY] if HISTORY in row else [])]


def _with_system(columns: Mapping[str, Any], messages: list[Message], notes: Notes) -> list[Message]:
    name = next((name for name in SYSTEM if name in columns), None)
    if name is None:
        return messages
    system = Message("system", text_of(columns[name], f"column '{name}'", notes))
    if messages and messages[0].role == "system":
        if messages[0].content.strip() != system.content.strip():
            raise BrokenRow(f"the column '{name}' and the system turn differ; keep one of them")
        return messages
    return [system, *messages]


def _pairs(columns: Mapping[str, Any], layout: Layout, notes: Notes) -> list[Message]:
    """Read a question and its answer, behind a history; either may also be a list of turns."""
    asked, said = columns[layout.asked], columns[layout.said]
    if _is_turns(asked):  # TRL learns the completion alone
        before = [one._replace(learned=one.role != "assistant") for one in turns_of(asked, layout.asked, notes)]
    else:
        more = [name for name in MORE if name in columns and name != layout.asked]
        texts = [text_of(columns[name], f"column '{name}'", notes) for name in (layout.asked, *more)]
        before = [Message("user", "\n\n".join(texts))]
    if _is_turns(said):
        return [*_history(columns, notes), *before, *turns_of(said, layout.said, notes)]
    reply = text_of(said, f"column '{layout.said}'", notes, learned=True)
    return [*_history(columns, notes), *before, Message("assistant", reply)]


def _is_turns(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    return any(isinstance(one, Mapping) and {str(key).lower() for key in one} & {*ROLE_KEYS} for one in value)


def _history(columns: Mapping[str, Any], notes: Notes) -> list[Message]:
    """Read earlier pairs of question and answer; their answers are learned, too."""
    value = columns.get(HISTORY)
    if not filled(value):
        return []
    earlier = listed(value, HISTORY)
    if _is_turns(earlier):
        return turns_of(earlier, HISTORY, notes)
    messages = []
    for place, pair in enumerate(earlier, 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BrokenRow(f"history {place} is no pair of a question and its answer; write [[question, answer], ...]")
        for role, text in zip(("user", "assistant"), pair, strict=True):
            said = text_of(text, f"history {place} ({role})", notes, learned=role == "assistant")
            messages.append(Message(role, said))
    return messages


def _check_order(messages: Sequence[Message]) -> None:
    """Raise BrokenRow for an order that chat templates of many models refuse (Llama 2, Mistral, Gemma)."""
    previous = ""
    for place, (role, *_) in enumerate(messages, 1):
        if role == "system" and place > 1:
            raise BrokenRow(f"turn {place} is a system message; only the first turn may be one, move it there")
        if role in ("assistant", "tool") and previous in ("", "system"):
            raise BrokenRow(f"the {role} speaks before the user; begin with a user turn")
        if role == previous != "tool":
            raise BrokenRow(f"turns {place - 1} and {place} are both {role}; join them into one")
        previous = role


def _columns(row: Any) -> set[str]:
    if not isinstance(row, Mapping):
        raise BrokenRow(f"of type {type(row).__name__}, not an object; write one object per row")
    return set(row)
