"""Statistics of a set of conversations, printed before training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.tasks.chat.rows import Conversation

CountTokens = Callable[[str], int]  # counts the tokens of a text, without those of a chat template


def length(conversation: Conversation, count_tokens: CountTokens) -> int:
    """Return the tokens of all messages."""
    return sum(count_tokens(message.text) for message in conversation.messages)


@dataclass(frozen=True)
class Statistics:
    """Counts over all splits; lengths in tokens of the messages, without what a chat template adds."""

    rows: Mapping[str, int]  # by split
    layouts: Mapping[str, int]  # rows by layout
    roles: Mapping[str, int]  # turns by role
    tokens: Mapping[str, int]  # of a row: median, 90 % (nearest ranks), max; and total
    answers: Mapping[str, int]  # lengths of the last assistant turns, which the model has to generate
    assistant_share: float  # share of all tokens, in [0, 1], that enter the loss
    duplicates: int  # rows whose user messages equal those of an earlier row, except for case and punctuation
    too_long: Mapping[str, int]  # rows over max_length, by split
    max_length: int
    cut: int  # last assistant turns over max_new_tokens
    max_new_tokens: int

    def lines(self) -> list[str]:
        rows, turns = sum(self.rows.values()), sum(self.roles.values())
        lines = [
            f"rows: {rows:,} ({_listed(self.rows)}); layout: {_listed(self.layouts)}",
            f"turns: {turns:,} ({_listed(self.roles)}), {turns / rows:.1f} a row",
            f"tokens: {_lengths(self.tokens)}; {self.assistant_share:.0%} are the assistant's",
            f"answers: {_lengths(self.answers)}; {self.cut:,} are longer than max_new_tokens={self.max_new_tokens}",
            f"duplicates: {self.duplicates:,} rows ask what an earlier one asked",
        ]
        if over := sum(self.too_long.values()):
            lines.append(
                f"too long: {over:,} rows ({_listed(self.too_long)}) over max_length={self.max_length} dropped"
            )
        return lines


def statistics(
    splits: Mapping[Any, Sequence[Conversation]], count_tokens: CountTokens, max_length: int, max_new_tokens: int
) -> Statistics:
    """Count the splits. Raise ValueError if there is no conversation."""
    conversations = [one for split in splits.values() for one in split]
    if not conversations:
        raise ValueError("there are no conversations to count; give at least one")
    counted = {split: [length(one, count_tokens) for one in rows] for split, rows in splits.items()}
    lengths = [tokens for split in counted.values() for tokens in split]
    answers = [count_tokens(one.answer) for one in conversations]
    assistant = sum(count_tokens(turn.reply) for one in conversations for turn in one.turns)
    return Statistics(
        rows={split: len(rows) for split, rows in splits.items()},
        layouts=Counter(one.layout for one in conversations),
        roles=Counter(message.role for one in conversations for message in one.messages),
        tokens=_summary(lengths),
        answers=_summary(answers),
        assistant_share=assistant / max(1, sum(lengths)),
        duplicates=len(conversations) - len({one.key for one in conversations}),
        too_long={split: over for split, rows in counted.items() if (over := sum(n > max_length for n in rows))},
        max_length=max_length,
        cut=sum(n > max_new_tokens for n in answers),
        max_new_tokens=max_new_tokens,
    )


def _summary(lengths: Sequence[int]) -> dict[str, int]:
    ordered = sorted(lengths)
    rank = {name: ordered[math.ceil(share * len(ordered)) - 1] for name, share in (("median", 0.5), ("90 %", 0.9))}
    return {**rank, "max": ordered[-1], "total": sum(ordered)}


def _lengths(summary: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in summary.items())


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
