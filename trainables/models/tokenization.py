"""Encode questions and replies as tokens, with one function for training and evaluation, so that formats agree.

A base without a chat template reads `Question: ...\nAnswer:` and answers ` ...` and its end token. Of a conversation,
each question follows the end token of the answer before it on a new line, and a system message is the line before the
first question.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from trainables.core import Example, Message, Row
from trainables.models.base_fault import first_line
from trainables.models.chat_template import REPLY_MARKER, assistant_turn, rendered


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Return the token ids up to the answer, by the base's chat template, or else as `Question: ... Answer:`."""
    return _Writer(tokenizer).write(_until(tokenizer, [("user", prompt)]), False).tokens


def asking_form(tokenizer: Any) -> tuple[list[int], str, str]:
    """Return what `encode_prompt` puts around a question: first tokens, text before it, and text behind it."""
    before, _, after = _until(tokenizer, [("user", REPLY_MARKER)]).partition(REPLY_MARKER)
    return _Writer(tokenizer).tokens, before, after


def encode_row(tokenizer: Any, example: Example) -> Row:
    """Encode a prompt and its gold answer."""
    return row_of(tokenizer, example.prompt, example.answer)


@lru_cache(maxsize=50_000)  # trials that share a base draw the same examples
def row_of(tokenizer: Any, prompt: str, answer: str) -> Row:
    """Encode a prompt and an answer; the labels are the answer and its end token."""
    return encode_reply(tokenizer, [("user", prompt)], answer)


def encode_reply(tokenizer: Any, messages: Sequence[tuple[str, str] | Message], reply: str) -> Row:
    """Encode earlier messages (role, text) and a reply; the labels are the reply and its end token."""
    writer = _Writer(tokenizer).write(_until(tokenizer, messages), False)
    return writer.write(_reply(tokenizer, reply), True).end().row()


@lru_cache(maxsize=50_000)
def encode_dialogue(tokenizer: Any, messages: tuple[Message, ...], tools: str = "") -> tuple[Row, ...]:
    """Encode a conversation that ends with a learned turn of the assistant as one row; its labels are those turns.

    The end token of a reply is a label too, as generation stops there; that of an earlier reply only if the template
    writes it. A conversation of one reply gives the row of `row_of`. A template that rewrites earlier turns (removes
    their reasoning, say) gives a row per learned reply, behind the text that the model will see then. Raise ValueError
    if the template refuses the conversation. `tools`: a JSON list of what the assistant may call.
    """
    if not tokenizer.chat_template and (tools or any(one.more or one.role == "tool" for one in messages)):
        raise ValueError("the base has no chat template, so no form for tools; leave such out: --task.no-tools")
    row = _one_row(tokenizer, messages, tools)
    if row is not None:
        return (row,)
    replies = [place for place, one in enumerate(messages) if one.role == "assistant" and one.learned]
    rows = []
    for place in replies:
        until = _until(tokenizer, messages[:place], tools)
        reply = _spoken(tokenizer, messages[: place + 1], tools, until)
        rows.append(_Writer(tokenizer).write(until, False).write(reply, True).end().row())
    return tuple(rows)


def refusal(tokenizer: Any, messages: tuple[Message, ...], tools: str = "") -> str:
    """Return why the base cannot read a conversation, in a line; empty if it can. It is rendered once, not encoded,
    unless it has tools, whose form only the template knows."""
    try:
        if tools or any(one.more or one.role == "tool" for one in messages):
            encode_dialogue(tokenizer, messages, tools)
        elif tokenizer.chat_template:
            _by_template(tokenizer, messages, tools, asking=False)
    except ValueError as fault:
        return first_line(fault)
    return ""


class _Writer:
    """Builds a row text by text. Each text is tokenized behind the one before: alone, it could get a leading space
    that is not there (SentencePiece) or share a token with the text before it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokens = [] if tokenizer.chat_template else _beginning(tokenizer)  # a template writes its own
        self._tokenizer, self._labels = tokenizer, [False] * len(self.tokens)
        self._near, self._ids = "", list[int]()  # the text since the last end token, and its tokens

    def write(self, text: str, label: bool) -> _Writer:
        together = self._encoded(self._near + text)
        count = len(self._ids)
        if together[:count] == self._ids:
            self._near, self._ids = self._near + text, together
        else:  # the two texts share a token: tokenize them apart
            count, self._near, self._ids = 0, text, self._encoded(text)
        return self._add(self._ids[count:], label)

    def end(self, label: bool = True) -> _Writer:
        """Append the end token of a reply."""
        end = assistant_turn(self._tokenizer).end
        self._near = self._tokenizer.convert_ids_to_tokens(end)
        self._ids = self._encoded(self._near)
        return self._add([end], label)

    def row(self) -> Row:
        return Row(tuple(self.tokens), tuple(self._labels))

    def _add(self, tokens: Sequence[Any], label: bool) -> _Writer:
        self.tokens += tokens
        self._labels += [label] * len(tokens)
        return self

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)


def _one_row(tokenizer: Any, messages: Sequence[Message], tools: str) -> Row | None:
    """Encode turn by turn, so that the labels are known; return None if the template rewrites earlier turns."""
    said, learned, writer = "", False, _Writer(tokenizer)  # the text so far, and whether its last reply is a label
    end = tokenizer.convert_ids_to_tokens(assistant_turn(tokenizer).end)
    for place, one in enumerate(messages):
        if one.role != "assistant":
            continue
        until = _until(tokenizer, messages[:place], tools)
        if not until.startswith(said):
            return None
        new, reply = until[len(said) :], _spoken(tokenizer, messages[: place + 1], tools, until)
        if said and new.startswith(end):
            writer.end(learned)
            new = new.removeprefix(end)
        writer.write(new, False).write(reply, one.learned)
        said, learned = until + reply, one.learned
    return writer.end().row()


def _until(tokenizer: Any, messages: Sequence[tuple[str, str] | Message], tools: str = "") -> str:
    """Render everything before the assistant's next reply."""
    if tokenizer.chat_template:
        return _by_template(tokenizer, messages, tools, asking=True)
    end = tokenizer.convert_ids_to_tokens(assistant_turn(tokenizer).end)
    form = {"system": "{}\n", "user": "Question: {}\nAnswer:", "assistant": f" {{}}{end}\n"}
    return "".join(form[role].format(text) for role, text, *_ in messages)


def _whole(message: tuple[str, str] | Message) -> Message:
    return Message(*message)


def _by_template(tokenizer: Any, messages: Sequence[tuple[str, str] | Message], tools: str, asking: bool) -> str:
    turns = [
        {"role": role, "content": text, **(json.loads(more) if more else {})}
        for role, text, _, more in map(_whole, messages)
    ]
    try:
        return rendered(tokenizer, turns, asking, json.loads(tools) if tools else ())
    except Exception as error:  # templates raise anything, with a reason
        why = first_line(error)
        raise ValueError(f"the base's chat template refuses a conversation: {why}; leave such out") from error


def _spoken(tokenizer: Any, messages: Sequence[Message], tools: str, until: str) -> str:
    """Return what the assistant says in the last message, behind the text `until` there, without its end token.

    How a call of a tool is written only the template knows.
    """
    if not messages[-1].more:
        return _reply(tokenizer, messages[-1].content)
    whole = _by_template(tokenizer, messages, tools, asking=False)
    if not whole.startswith(until):
        raise ValueError("the base's chat template writes a call of a tool elsewhere than a reply; leave such out")
    said = whole[len(until) :]
    before, end, _ = said.rpartition(tokenizer.convert_ids_to_tokens(assistant_turn(tokenizer).end))
    return before if end else said


def _reply(tokenizer: Any, text: str) -> str:
    before, after, _ = assistant_turn(tokenizer)
    return f"{before}{text}{after}"


def _beginning(tokenizer: Any) -> list[int]:
    """Return the special tokens that a tokenizer puts before a text, without those behind it."""
    whole, alone = tokenizer("?").input_ids, tokenizer("?", add_special_tokens=False).input_ids
    return next((whole[:i] for i in range(len(whole)) if whole[i : i + len(alone)] == alone), [])


def decode(tokenizer: Any, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True)
