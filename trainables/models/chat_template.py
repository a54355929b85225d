"""A base's chat template: how it writes a conversation, the same on every day, and the token that it ends a turn with.

Templates may write today's date into every prompt (Llama 3's does); a trial of tomorrow would then read other prompts
than the one that it repeats or resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

TEMPLATE_DATE = datetime(2024, 7, 26)  # of all prompts: what Llama 3's template says where it is told of none
CODES = ("d", "-d", "b", "B", "m", "y", "Y", "a", "A", "j", "H", "I", "M", "S", "p")  # of strftime's format
REPLY_MARKER = "espalier-said-this"  # what no template writes by itself


def rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]], asking: bool = True) -> str:
    """The conversation as text; `asking`: up to where the assistant goes on. Raises what the template raises."""
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _on_that_day() + template
    return tokenizer.apply_chat_template(
        list(messages),
        chat_template=template,
        add_generation_prompt=asking,
        tokenize=False,
        date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
        enable_thinking=False,  # Qwen3's and SmolLM3's word: the answer itself is asked for, and has room for no more
    )


def _on_that_day() -> str:
    """A macro in the place of transformers' `strftime_now`, which cannot be given another clock."""
    filters = "".join(f" | replace('%{code}', '{TEMPLATE_DATE.strftime(f'%{code}')}')" for code in CODES)
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}{{{{ '' }}}}"


class AssistantTurn(NamedTuple):
    """How the assistant's turn is written: space before what it says and behind it, and the token that ends it."""

    before: str
    after: str
    end: Any  # None where the tokenizer has no end token


@lru_cache(maxsize=16)
def assistant_turn(tokenizer: Any) -> AssistantTurn:
    """As the chat template writes it, which may put spaces around what is said (Llama 2's and Mistral's do).

    It ends with the token that the template puts behind it, if that is one token by itself, otherwise with the
    tokenizer's end token. They differ in many families (Gemma's `<end_of_turn>`, Phi-3's `<|end|>`), whose bases never
    say their end token after an answer. Without a template a space separates an answer from `Answer:`.
    """
    if not tokenizer.chat_template:
        return AssistantTurn(" ", "", tokenizer.eos_token_id)
    asked = [{"role": "user", "content": "?"}]
    try:
        prompt = rendered(tokenizer, asked)
        said = rendered(tokenizer, [*asked, {"role": "assistant", "content": REPLY_MARKER}], asking=False)
    except Exception:  # a template raises what it likes; where it matters, `prompts` tells of it
        prompt = said = ""
    until, _, behind = said.rpartition(REPLY_MARKER)
    before = until.removeprefix(prompt) if until.startswith(prompt) else ""
    after = behind[: len(behind) - len(behind.lstrip())]
    first = tokenizer(behind.lstrip(), add_special_tokens=False).input_ids[:1] if until else []
    if not first or first[0] not in tokenizer.added_tokens_decoder:
        after, first = "", [tokenizer.eos_token_id]
    return AssistantTurn("" if before.strip() else before, after, first[0])
