"""`espalier chat`: ask the winner of a sweep, and beside it the untouched base."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sweeps.commands.winner import open_winner
from sweeps.results.terminal import print
from sweeps.spec.trust import apply_trust
from trainables.bad_input import BadInput

PROMPT = "> "


def chat(
    run: Path, text: str | None = None, /, max_tokens: int = 256, base: str | None = None, trust: tuple[str, ...] = ()
) -> None:
    """Ask the winner of runs/X and its untouched base the same question, in the form in which it was trained.

    Each question stands alone: neither model sees the ones before. Answers are greedy.

    Args:
        run: the sweep's folder
        text: the question; none: ask for one after the other, until Ctrl-D
        max_tokens: the longest answer
        base: where the base is, if it is no longer where it was
        trust: files or modules with learners and tasks that are not Espalier's; folder: the base may run its own code
    """
    apply_trust(trust)
    if max_tokens < 1:
        raise BadInput(f"--max-tokens {max_tokens}:", "give 1 or more")
    winner = open_winner(run, base)
    from trainables.models.side_by_side import SideBySide  # imports torch

    try:
        models = SideBySide(winner.base, winner.folder)
        for question in [text] if text is not None else _questions():
            for who, answer in zip((winner.name, "untouched base"), models.ask(question, max_tokens), strict=True):
                cut = "" if answer.ended else f" [cut off after {max_tokens} tokens]"
                print(f"{who}: {answer.text}{cut}", flush=True)
    except ValueError as error:  # of a base or an adapter
        raise BadInput(str(error)) from error


def _questions() -> Iterator[str]:
    """Yield the lines of standard input that are not empty; on a terminal, after a prompt."""
    ask = PROMPT if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(ask)
        except EOFError:
            return
        if line.strip():
            yield line
