"""Have judges compare the replies of checkpoints: every pair, both orders, every verdict on disk before the next.

A judge is anything callable with a `name`; `judges.py` has two. What verdicts come to: `win_rates.py`.
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
class Shown:
    """What a judge sees, and all that it sees: no name, no hash, no order."""

    prompt: Prompt
    a: str
    b: str


class Judge(Protocol):
    """Rules on replies shown as A and B, one ruling each, in order.

    `name` stands in every verdict and must change with all that may change a ruling: model, question, margin.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, shown: Sequence[Shown]) -> list[Ruling]: ...


def judge_all(
    judges: Sequence[Judge],
    replies: Mapping[str, Sequence[str]],
    prompts: Mapping[str, Prompt],
    file: Path,
    at_a_time: int = 8,
) -> list[Verdict]:
    """Verdicts of every judge on every pair of checkpoints and every item: those in `file`, and the rest, appended.

    `prompts`: item key -> prompt; `replies`: checkpoint (`checkpoint_hash`, or the untouched base's name) -> its
    replies in the order of `prompts`. After a kill it asks only what is missing: at most `at_a_time` items twice.
    Equal replies are a tie that nobody is asked about. ValueError if replies are missing or judges share a name.
    """
    for checkpoint, said in replies.items():
        if len(said) != len(prompts):
            raise ValueError(f"checkpoint {checkpoint} has {len(said)} replies to {len(prompts)} prompts; give as many")
    if len(replies) < 2 or len({judge.name for judge in judges}) < len(judges) or not judges:
        raise ValueError(
            f"judging needs two or more checkpoints and judges of different names; got {list(replies)}"
            f" and {[judge.name for judge in judges]}"
        )
    known = {verdict.key: verdict for verdict in read_verdicts(file)}
    found = []
    for judge, (first, second) in itertools.product(judges, itertools.combinations(replies, 2)):
        rows = zip(prompts.items(), replies[first], replies[second], strict=True)
        asked = [
            (Verdict(judge.name, item, first, second, _said(prompt, a, b)), Shown(prompt, a, b))
            for (item, prompt), a, b in rows
        ]
        missing = [(verdict, shown) for verdict, shown in asked if verdict.key not in known]
        for start in range(0, len(missing), at_a_time):
            made = _judged(judge, missing[start : start + at_a_time])
            append_verdicts(file, made)
            known |= {verdict.key: verdict for verdict in made}
        found += [known[verdict.key] for verdict, _ in asked]
    return found


def _judged(judge: Judge, missing: Sequence[tuple[Verdict, Shown]]) -> list[Verdict]:
    both = [
        order for _, shown in missing if shown.a != shown.b for order in (shown, Shown(shown.prompt, shown.b, shown.a))
    ]
    rulings = iter(zip(both, judge(both) if both else [], strict=True))
    return [
        Verdict(**vars(verdict) | {"rulings": (next(rulings)[1], next(rulings)[1]) if shown.a != shown.b else ()})
        for verdict, shown in missing
    ]


def _said(prompt: Prompt, a: str, b: str) -> str:
    """The same whichever reply comes first."""
    return hashlib.sha256(json.dumps([prompt, *sorted((a, b))]).encode()).hexdigest()[:12]
