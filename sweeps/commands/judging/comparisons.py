"""Pairwise comparison: judges compare the replies of every pair of checkpoints, in both orders.

A judge is a callable with a `name`; `judges.py` has two. Verdicts are on disk before the next batch is judged.
`win_rates.py` counts them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sweeps.commands.judging.verdicts import Ruling, Verdict, append_verdicts, read_verdicts

Prompt = str | Sequence[Mapping[str, str]]  # text, or messages of `role` and `content`


@dataclass(frozen=True)
class BlindPair:
    """A prompt and two replies to it. A judge sees nothing else: no name, no hash and no order."""

    prompt: Prompt
    a: str
    b: str


class Judge(Protocol):
    """Returns one ruling for each pair of replies, in order.

    Every verdict records `name`. It must change with everything that may change a ruling: model, question, margin.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, pairs: Sequence[BlindPair]) -> list[Ruling]: ...


def judge_all(
    judges: Sequence[Judge],
    replies: Mapping[str, Sequence[str]],
    prompts: Mapping[str, Prompt],
    file: Path,
    at_a_time: int = 8,
) -> list[Verdict]:
    """Return the verdicts of every judge on every pair of checkpoints and every item. Append the new ones to `file`.

    `prompts`: item key -> prompt. `replies`: checkpoint (`checkpoint_hash`, or the untouched base's name) -> its
    replies, in the order of `prompts`. After a kill only missing verdicts are judged; at most `at_a_time` items are
    judged twice. Equal replies are a tie that no judge sees. Raise ValueError if replies are missing or if two judges
    have the same name.
    """
    for checkpoint, texts in replies.items():
        if len(texts) != len(prompts):
            raise ValueError(
                f"checkpoint {checkpoint} has {len(texts)} replies to {len(prompts)} prompts; give as many"
            )
    if len(replies) < 2 or len({judge.name for judge in judges}) < len(judges) or not judges:
        raise ValueError(
            f"judging needs two or more checkpoints and judges of different names; got {list(replies)}"
            f" and {[judge.name for judge in judges]}"
        )
    known = {verdict.key: verdict for verdict in read_verdicts(file)}
    found = []
    for judge, (first, second) in itertools.product(judges, itertools.combinations(replies, 2)):
        rows = zip(prompts.items(), replies[first], replies[second], strict=True)
        wanted = [
            (Verdict(judge.name, item, first, second, _content_hash(prompt, a, b)), BlindPair(prompt, a, b))
            for (item, prompt), a, b in rows
        ]
        missing = [(verdict, pair) for verdict, pair in wanted if verdict.key not in known]
        for start in range(0, len(missing), at_a_time):
            made = _judge_batch(judge, missing[start : start + at_a_time])
            append_verdicts(file, made)
            known |= {verdict.key: verdict for verdict in made}
        found += [known[verdict.key] for verdict, _ in wanted]
    return found


def _judge_batch(judge: Judge, missing: Sequence[tuple[Verdict, BlindPair]]) -> list[Verdict]:
    """Return the verdicts with their rulings: none for equal replies, else one for each order."""
    orders = [
        order for _, pair in missing if pair.a != pair.b for order in (pair, BlindPair(pair.prompt, pair.b, pair.a))
    ]
    rulings = iter(zip(orders, judge(orders) if orders else [], strict=True))
    return [
        Verdict(**vars(verdict) | {"rulings": (next(rulings)[1], next(rulings)[1]) if pair.a != pair.b else ()})
        for verdict, pair in missing
    ]


def _content_hash(prompt: Prompt, a: str, b: str) -> str:
    """Return a hash that does not depend on the order of the replies."""
    return hashlib.sha256(json.dumps([prompt, *sorted((a, b))]).encode()).hexdigest()[:12]
