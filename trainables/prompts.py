"""How a question becomes tokens: one function for training and evaluation, so that their formats cannot differ."""

from __future__ import annotations

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
    before, after = encode_prompt(tokenizer, prompt), encode_answer(tokenizer, answer)
    return Row(tuple(before + after), (False,) * len(before) + (True,) * len(after))


def decode(tokenizer: Any, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True)
