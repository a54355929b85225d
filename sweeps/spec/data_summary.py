"""Lines about a task's data, and about what of a base is trained, that are printed before anything is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from trainables.core import Pair


def data_of(pair: Pair) -> list[str]:
    """Return the task's own lines about its data, and lines about a base that treats data or adapters in its own way.

    They measure texts in tokens of the base, or in words where the pair has no base.
    """

    @functools.cache
    def tokenizer() -> Any:  # loaded for tasks that measure something
        from trainables.models.loading import tokenizer as load

        return load(pair.base)

    def count_tokens(text: str) -> int:
        if not pair.learner.needs_base:
            return len(text.split())
        return len(tokenizer()(text, add_special_tokens=False).input_ids)

    return [*pair.task.describe(count_tokens), *_moved_system_turns(pair, tokenizer), *_frozen_experts(pair)]


def _frozen_experts(pair: Pair) -> list[str]:
    """Say how much of a mixture of experts LoRA leaves as it is."""
    adapter = pair.learner.adapter()
    if not adapter or not adapter.r:
        return []
    from trainables.models.loading import frozen_experts

    share = frozen_experts(pair.base)
    told = f"{share:.0%} of its weights are stacked experts, which stay frozen; LoRA adapts layers around them"
    return [f"{pair.base}: {told}"] if share else []


def _moved_system_turns(pair: Pair, tokenizer: Callable[[], Any]) -> list[str]:
    """Say so if conversations begin with a system turn, for which the base's chat template has no place."""
    talks = (getattr(example.data, "messages", ()) for example in pair.task.train())
    if not pair.learner.needs_base or not any(messages and messages[0][0] == "system" for messages in talks):
        return []
    from trainables.models.chat_template import takes_system

    if not tokenizer().chat_template or takes_system(tokenizer()):
        return []
    return [f"{pair.base}: its chat template takes no system turn, which goes in front of the first user turn instead"]
