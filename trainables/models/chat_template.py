"""Render conversations by a base's chat template, on a fixed date, and find the token that ends a turn.

Templates may write today's date into every prompt (Llama 3's does); a trial of tomorrow would then read other prompts
than the one that it repeats or resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

TEMPLATE_DATE = datetime(2024, 7, 26)  # in all prompts: the date that Llama 3's template falls back to
CODES = ("d", "-d", "b", "B", "m", "y", "Y", "a", "A", "j", "H", "I", "M", "S", "p")  # of strftime that are replaced
REPLY_MARKER = "espalier-said-this"  # a text that no template contains


def rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]], asking: bool = True) -> str:
    """Render a conversation as text; `asking`: up to the assistant's next turn. Raise what the template raises."""
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _on_that_day() + template
    return tokenizer.apply_chat_template(
        list(messages),
        chat_template=template,
        add_generation_prompt=asking,
        tokenize=False,
        date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
        enable_thinking=False,  # Qwen3 and SmolLM3: max_new_tokens has no room for reasoning
    )


def _on_that_day() -> str:
    """Return a macro that replaces transformers' `strftime_now`, which takes no other clock."""
    filters = "".join(f" | replace('%{code}', '{TEMPLATE_DATE.strftime(f'%{code}')}')" for code in CODES)
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}{{{{ '' }}}}"


class AssistantTurn(NamedTuple):
    """The format of the assistant's turn: spaces before and after its text, and the token that ends it."""

    before: str
    after: str
    end: Any  # None if the tokenizer has no end token


@lru_cache(maxsize=16)
def assistant_turn(tokenizer: Any) -> AssistantTurn:
    """Find out the format from the chat template, which may put spaces around the text (Llama 2's and Mistral's do).

    The end token is the token that the template puts behind the text, if it is a single one, otherwise the tokenizer's.
    They differ in many families (Gemma's `<end_of_turn>`, Phi-3's `<|end|>`), whose bases never write the tokenizer's
    end token after an answer. Without a template, a space separates an answer from `Answer:`.
    """
    if not tokenizer.chat_template:
        return AssistantTurn(" ", "", tokenizer.eos_token_id)
    asked = [{"role": "user", "content": "?"}]
    try:
        prompt = rendered(tokenizer, asked)
        said = rendered(tokenizer, [*asked, {"role": "assistant", "content": REPLY_MARKER}], asking=False)
    except Exception:  # templates raise anything; `tokenization` reports it where it matters
        prompt = said = ""
    until, _, behind = said.rpartition(REPLY_MARKER)
    before = until.removeprefix(prompt) if until.startswith(prompt) else ""
    after = behind[: len(behind) - len(behind.lstrip())]
    first = tokenizer(behind.lstrip(), add_special_tokens=False).input_ids[:1] if until else []
    if not first or first[0] not in tokenizer.added_tokens_decoder:
        after, first = "", [tokenizer.eos_token_id]
    return AssistantTurn("" if before.strip() else before, after, first[0])
