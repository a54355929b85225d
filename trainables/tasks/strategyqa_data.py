"""Where StrategyQA's questions come from. (File loaders follow.)"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainables.core import Split
from trainables.tasks.arc_data import hash_fraction

SEARCH_SHARE, TEST_SHARE = 0.15, 0.25  # of data without splits of its own; official splits keep their test questions


@dataclass(frozen=True)
class Item:
    """What stands behind a question: facts it needs, questions it falls apart into, and the reasoning in words."""

    facts: tuple[str, ...] = ()
    decomposition: tuple[str, ...] = ()
    rationale: str = ""


@dataclass(frozen=True)
class Entry:
    key: str
    question: str
    answer: str  # Yes or No
    item: Item


@dataclass(frozen=True)
class Rationale:
    rationale: str
    weight: float = 1.0


def split_of(key: str) -> Split:
    """The split of a key where the source has none: the same on every machine, for every seed."""
    place = hash_fraction(key)
    return "search" if place < SEARCH_SHARE else "test" if place < SEARCH_SHARE + TEST_SHARE else "train"


def load_splits(data: str) -> Mapping[Split, tuple[Entry, ...]]:
    raise ValueError(f"data='{data}' is not known; use 'generated'")


@lru_cache(maxsize=4)
def load_rationales(path: str) -> Mapping[str, Rationale]:
    rows = [json.loads(line) for line in Path(path).expanduser().read_text(encoding="utf-8").splitlines() if line]
    return {row["key"]: Rationale(row["rationale"], float(row.get("weight", 1.0))) for row in rows}
