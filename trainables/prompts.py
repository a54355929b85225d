"""How a question becomes tokens: one function for training and evaluation, so that their formats cannot differ.

A base without a chat template reads `Question: ...\nAnswer:` and answers ` ...` and its end token. Of a conversation,
each question follows the end token of the answer before it on a new line, and a system message is the line before the
first question.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from trainables.core import Example, Row


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids up to where the answer starts: the base's chat template where it has one, else `Question: Answer:`."""
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        return tokenizer(text, add_special_tokens=False).input_ids
    return tokenizer(f"Question: {prompt}\nAnswer:").input_ids


def encode_answer(tokenizer: Any, answer: str) -> list[int]:
    """Token ids of the answer and the end token. Without a chat template a space separates it from `Answer:`."""
    text = answer if tokenizer.chat_template else f" {answer}"
    return [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]


def encode_row(tokenizer: Any, example: Example) -> Row:
    """Prompt and gold answer."""
    return row_of(tokenizer, example.prompt, example.answer)


@lru_cache(maxsize=50_000)  # trials that share a base draw the same examples
def row_of(tokenizer: Any, prompt: str, answer: str) -> Row:
    """Prompt and what is said to it; only that and its end token are labels."""
    return row_after(encode_prompt(tokenizer, prompt), encode_answer(tokenizer, answer))


@lru_cache(maxsize=50_000)
def encode_dialogue(tokenizer: Any, messages: tuple[tuple[str, str], ...]) -> tuple[Row, ...]:
    """A conversation (role, text) that ends with the assistant: one row, whose labels are what the assistant says.

    Each reply is followed by the end token, which is a label too, as generation stops there; of an earlier reply only
    where the template ends it so. A last reply alone is what `row_of` makes of it. A template that shows earlier turns
    otherwise than they were generated (without their reasoning, say) gives a row per reply, each after what the model
    will see then. Raises ValueError where the template refuses the conversation.
    """
    row = _one_row(tokenizer, messages)
    if row is not None:
        return (row,)
    replies = [place for place, (role, _) in enumerate(messages) if role == "assistant"]
    return tuple(
        row_after(_first(tokenizer, _until(tokenizer, messages[:place])), encode_answer(tokenizer, messages[place][1]))
        for place in replies
    )


def row_after(before: Sequence[int], after: Sequence[int]) -> Row:
    """Token ids of which the second part is to be predicted."""
    return Row((*before, *after), (False,) * len(before) + (True,) * len(after))


def _one_row(tokenizer: Any, messages: Sequence[tuple[str, str]]) -> Row | None:
    """Turn by turn, so that the place of every label is known; None if the template does not keep earlier turns."""
    said, tokens, labels = "", list[int](), list[bool]()  # the text that is behind us, and what it came to
    for place, (role, text) in enumerate(messages):
        if role != "assistant":
            continue
        until = _until(tokenizer, messages[:place])
        if not until.startswith(said):
            return None
        new = until[len(said) :]
        if said and new.startswith(tokenizer.eos_token):
            new = new.removeprefix(tokenizer.eos_token)
            tokens.append(tokenizer.eos_token_id)
            labels.append(True)
        between = _later(tokenizer, new) if said else _first(tokenizer, new)
        *reply, end = encode_answer(tokenizer, text)
        tokens += [*between, *reply]
        labels += [False] * len(between) + [True] * len(reply)
        said = until + (text if tokenizer.chat_template else f" {text}")
    return Row((*tokens, end), (*labels, True))


def _until(tokenizer: Any, messages: Sequence[tuple[str, str]]) -> str:
    """All that stands before the assistant's next words."""
    if tokenizer.chat_template:
        chat = [{"role": role, "content": text} for role, text in messages]
        try:
            return tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template raises what it likes, and says why
            raise ValueError(f"the base's chat template refuses a conversation: {error}; leave such out") from error
    form = {"system": "{}\n", "user": "Question: {}\nAnswer:", "assistant": f" {{}}{tokenizer.eos_token}\n"}
    return "".join(form[role].format(text) for role, text in messages)


def _first(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that begins a row: a template brings its own beginning along."""
    return list(tokenizer(text, add_special_tokens=not tokenizer.chat_template).input_ids)


def _later(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def decode(tokenizer: Any, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True)
