"""A base's chat template: how it writes a conversation, the same on every day, and the token that it ends a turn with.

Templates may write today's date into every prompt (Llama 3's does); a trial of tomorrow would then read other prompts
than the one that it repeats or resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

TODAY = datetime(2024, 7, 26)  # of all prompts: what Llama 3's template says where it is told of none
CODES = ("d", "-d", "b", "B", "m", "y", "Y", "a", "A", "j", "H", "I", "M", "S", "p")  # of strftime's format
SAID = "espalier-said-this"  # what no template writes by itself


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
        date_string=TODAY.strftime("%d %b %Y"),
    )


def _on_that_day() -> str:
    """A macro in the place of transformers' `strftime_now`, which cannot be given another clock."""
    filters = "".join(f" | replace('%{code}', '{TODAY.strftime(f'%{code}')}')" for code in CODES)
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}{{{{ '' }}}}"


@lru_cache(maxsize=16)
def turn_end(tokenizer: Any) -> Any:
    """The token that ends what the assistant says: the one that the chat template puts behind it, if that is one token
    by itself, otherwise the tokenizer's end token (None where it has none).

    They differ in many families (Gemma's `<end_of_turn>`, Phi-3's `<|end|>`), whose bases never say their end token
    after an answer.
    """
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": SAID}]
        try:
            _, said, after = rendered(tokenizer, chat, asking=False).rpartition(SAID)
        except Exception:  # a template raises what it likes; where it matters, `prompts` tells of it
            said, after = "", ""
        first = tokenizer(after.lstrip(), add_special_tokens=False).input_ids[:1] if said else []
        if first and first[0] in tokenizer.added_tokens_decoder:
            return first[0]
    return tokenizer.eos_token_id
