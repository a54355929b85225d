"""Fits a sweep to its bases before anything starts: tasks to what a base can read, default rates to its width."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from search_spaces.models import rate_at_width
from sweeps.spec.config_fields import with_fields
from sweeps.spec.largest_config import largest_config
from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput
from trainables.core import Example, LearnerConfig, Pair, Split, Task
from trainables.options import rates

SPLITS = get_args(Split)
AROUND = 256  # bytes that a chat template puts around a question at the most; only longer texts are tokenized


def fitted(sweep: Sweep) -> Sweep:
    """Return the sweep with tasks and default rates for its bases. Raises BadInput for data or bases that cannot be
    read."""
    try:
        tasks = [(task, task.fitted(_lengths(sweep, task))) for task in sweep.tasks()]
        learners = [_at_width(pair) for pair in sweep.pairs]
    except ValueError as error:  # of a task or a base, in one line, too
        raise BadInput(str(error)) from error
    pairs = [
        dataclasses.replace(pair, learner=learner, task=next(new for old, new in tasks if old == pair.task))
        for pair, learner in zip(sweep.pairs, learners, strict=True)
    ]
    return dataclasses.replace(sweep, pairs=tuple(pairs))


def _at_width(pair: Pair) -> LearnerConfig:
    """Return a pair's learner with default rates for the width of its base; rates that were chosen stay."""
    learner: Any = pair.learner  # a dataclass, which the protocol does not say
    defaults: dict[str, Any] = {one.name: one.default for one in dataclasses.fields(learner)}
    own = {name: defaults[name] for name in rates(learner) if getattr(learner, name) == defaults[name]}
    if not learner.needs_base or not own:
        return learner
    from trainables.models.loading import base_sizes  # imports torch

    width, *_ = base_sizes(pair.base)
    return with_fields(learner, {name: rate_at_width(value, width) for name, value in own.items()})


def check_conversations(sweep: Sweep) -> None:
    """Raise BadInput if the chat template of a base refuses conversations, with the file and the row of the first."""
    for base, pair in sweep.bases().items():
        talks = [one.data for split in SPLITS for one in pair.task.split(split) if hasattr(one.data, "messages")]
        if not talks:
            continue
        from trainables.models.loading import tokenizer
        from trainables.models.tokenization import refusal

        read = tokenizer(base)
        refused = [(one, why) for one in talks if (why := refusal(read, one.messages, one.tools))]
        if refused:
            first, why = refused[0]
            others = f" (and {len(refused) - 1:,} more)" if refused[1:] else ""
            raise BadInput(f"{first.place or 'a conversation'}:", f"{base}: {why}{others}")


def _lengths(sweep: Sweep, task: Task) -> list[TokenLengths]:
    """Return a measure for each base of a task, with the longest soft prompt that is tried on it."""
    longest: dict[str, int] = {}
    for pair in sweep.pairs:
        if pair.learner.needs_base and pair.task == task:
            adapter = largest_config(sweep, pair).adapter()
            longest[pair.base] = max(longest.get(pair.base, 0), adapter.num_virtual_tokens if adapter else 0)
    return [TokenLengths(base, virtual) for base, virtual in longest.items()]


def lengths_of(sweep: Sweep, pair: Pair) -> TokenLengths:
    """Return a measure for a pair's base, with the longest soft prompt that the pair tries."""
    adapter = largest_config(sweep, pair).adapter()
    return TokenLengths(pair.base, adapter.num_virtual_tokens if adapter else 0)


@dataclass(frozen=True)
class TokenLengths:
    """Implements `core.BaseLengths`; the tokenizer is loaded when it is first needed."""

    base: str
    virtual: int  # tokens of a soft prompt before the question

    @cached_property
    def limit(self) -> float:
        from trainables.models.loading import longest_text  # imports torch

        return longest_text(self.base) - self.virtual

    @property
    def writes_tools(self) -> bool:
        from trainables.models.chat_template import takes_tools

        return takes_tools(self._tokenizer)

    def is_too_long(self, example: Example, more: int) -> bool:
        from trainables.models.tokenization import encode_row

        if len(example.prompt.encode()) + len(example.answer.encode()) + AROUND + more <= self.limit:
            return False  # no token is shorter than a byte
        return len(encode_row(self._tokenizer, example).tokens) + more > self.limit

    def answer(self, example: Example) -> int:
        return len(self._tokenizer(example.answer, add_special_tokens=False).input_ids) + 1

    @cached_property
    def _tokenizer(self) -> Any:
        from trainables.models.loading import tokenizer

        return tokenizer(self.base)
