"""Shared by the tests of StrategyQA's learners: a small task, planted files, and a base that answers as planned."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainables.core import Completion, Example
from trainables.models.loading import Base, load
from trainables.models.tokenization import decode
from trainables.tasks.strategyqa.task import StrategyQaTask

TASK = StrategyQaTask(train_size=8, search_size=8, test_size=8)  # Yes, Yes, No, No, and again
SMALL = {"r": 2, "per_device_train_batch_size": 2, "steps_per_round": 2, "max_new_tokens": 12}


def tiny() -> Base:
    """The built-in base, which knows every word of the generated world."""
    return load("builtin:tiny")


def written(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def rationale_file(folder: Path, examples: Sequence[Example], weights: Sequence[float]) -> str:
    rows = [
        {"key": e.key, "rationale": TASK.rationale(e), "weight": weight}
        for e, weight in zip(examples, weights, strict=True)
    ]
    return written(folder / "rationales.jsonl", rows)


def saying(base: Base, text: str, ended: bool = True) -> Completion:
    """A completion that says this."""
    return Completion(base.tokenizer(text, add_special_tokens=False).input_ids, ended)


def text_of(base: Base, row: Any) -> str:
    return decode(base.tokenizer, list(row.tokens))


def draft_of(text: str) -> str:
    """Return the text between a prompt and its conclusion."""
    return re.split(r"\bassistant\b|Answer:", text)[-1].rpartition("So the answer is")[0].strip()


@contextmanager
def counting_passes(base: Base):
    """A list with an entry for each forward pass of the base: how many rows it had."""
    passes: list[int] = []

    def note(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        passes.append(len(kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]))

    hook = base.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()


def by_question(examples: Sequence[Example]) -> Callable[[str], Example]:
    """Return the example that a text asks about."""
    return lambda text: next(e for e in examples if e.prompt in text)
