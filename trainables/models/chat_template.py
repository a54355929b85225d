"""Render conversations by a base's chat template, on a fixed date, and find the token that ends a turn.

Templates may write today's date into every prompt (Llama 3's does); a trial of tomorrow would then read other prompts
than the one that it repeats or resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from trainables.models.base_fault import BaseFault, first_line

TEMPLATE_DATE = datetime(2024, 7, 26)  # in all prompts: the date that Llama 3's template falls back to
CODES = ("d", "-d", "b", "B", "m", "y", "Y", "a", "A", "j", "H", "I", "M", "S", "p")  # of strftime that are replaced
REPLY_MARKER = "espalier-said-this"  # a text that no template contains


def choose_template(tokenizer: Any) -> None:
    """Keep one of several named templates: `default`, else `chat`, else the only one. Raise BaseFault otherwise."""
    named = tokenizer.chat_template
    if not isinstance(named, dict):
        return
    clear = [name for name in ("default", "chat") if name in named] or ([*named] if len(named) == 1 else [])
    if not clear:
        raise BaseFault(
            f"its chat templates are {', '.join(sorted(named))}, and none is called default or chat; save the one to"
            " use as chat_template.jinja"
        )
    tokenizer.chat_template = named[clear[0]]


def check_template(tokenizer: Any) -> None:
    """Raise BaseFault if the chat template cannot render a question, or leaves its text out."""
    if not tokenizer.chat_template:
        return
    try:
        text = rendered(tokenizer, [{"role": "user", "content": REPLY_MARKER}])
    except Exception as error:  # templates raise anything
        raise BaseFault(
            f"its chat template refuses a question ({first_line(error)}); mend it, or remove it to ask without one"
        ) from error
    if REPLY_MARKER not in text:
        raise BaseFault("its chat template leaves the question out; mend it, or remove it to ask without one")


def rendered(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], asking: bool = True, tools: Sequence[Any] = ()
) -> str:
    """Render a conversation as text; `asking`: up to the assistant's next turn. Raise what the template raises.

    `tools`: what the assistant may call, as JSON schemas.

    Of a template that has no place for a system turn, the turn goes in front of the first user turn.
    """
    if messages and messages[0]["role"] == "system" and not takes_system(tokenizer):
        messages = _system_in_question(messages)
    return _rendered(tokenizer, messages, asking, tools)


@lru_cache(maxsize=16)
def takes_system(tokenizer: Any) -> bool:
    """Return whether the chat template writes a system turn; some refuse it (Gemma), and some leave it out."""
    asked = [{"role": "system", "content": REPLY_MARKER}, {"role": "user", "content": "?"}]
    try:
        return REPLY_MARKER in _rendered(tokenizer, asked)
    except Exception:  # templates raise anything
        return False


@lru_cache(maxsize=16)
def takes_tools(tokenizer: Any) -> bool:
    """Return whether the chat template writes tools, their calls and their results; most of small models do not."""
    if not tokenizer.chat_template:
        return False
    offered, called, argument, result = (f"{REPLY_MARKER}-{n}" for n in range(4))
    call = {"id": "call00001", "type": "function", "function": {"name": called, "arguments": {"a": argument}}}
    talk: list[Mapping[str, Any]] = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": called, "tool_call_id": "call00001", "content": result},
    ]
    schema = {"name": offered, "description": "?", "parameters": {"type": "object", "properties": {}}}
    try:
        text = rendered(tokenizer, talk, tools=[{"type": "function", "function": schema}])
    except Exception:  # templates raise anything
        return False
    return all(marker in text for marker in (offered, called, argument, result))


def _system_in_question(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    system, *others = messages
    if not others or others[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *others]
    return [{"role": "user", "content": f"{system['content']}\n\n{others[0]['content']}"}, *others[1:]]


def _rendered(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], asking: bool = True, tools: Sequence[Any] = ()
) -> str:
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _on_that_day() + template
    return tokenizer.apply_chat_template(
        list(messages),
        tools=list(tools) or None,
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
