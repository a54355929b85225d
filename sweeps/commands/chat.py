"""`espalier chat`: ask the winner of a sweep, and beside it the untouched base."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sweeps.results.run_folder import BEST
from sweeps.results.terminal import print
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import open_run, trial_of
from sweeps.spec.sweep import BadInput
from sweeps.spec.trust import apply_trust

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
        raise BadInput(f"--max-tokens {max_tokens}: give 1 or more")
    source = open_run(run)
    record = trial_of(source, BEST)
    pair = rebuild(source.facts, remote_code=base is not None).resolve(record.params)
    if not pair.learner.needs_base or pair.learner.per_example:
        raise BadInput(f"{source.folder}: its winner ({record.learner}) is no single language model to ask")
    from trainables.models.side_by_side import SideBySide  # imports torch

    try:
        models = SideBySide(base or pair.base, source.best)
        for question in [text] if text is not None else _questions():
            trained, untouched = models.ask(question, max_tokens)
            for who, answer in ((f"trial {record.number} ({record.learner})", trained), ("untouched base", untouched)):
                cut = "" if answer.ended else f" [cut off after {max_tokens} tokens]"
                print(f"{who}: {answer.text}{cut}", flush=True)
    except ValueError as error:  # of a base or an adapter; they cannot import BadInput
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
