"""Whoever answers what a language learner asks (`core.Asking`): hosts, or the process of a trial with its own model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainables.core import Asking, Complete, Read


def answered(asking: Asking, answer: Callable[[Complete | Read], Any]) -> Any:
    """Answer everything that is asked for; what is returned in the end."""
    reply = None
    while True:
        try:
            ask = asking.send(reply)
        except StopIteration as end:
            return end.value
        reply = answer(ask)
