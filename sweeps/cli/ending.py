"""The end of every script and command: an exit status and, after an error, one line on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeps.persistence.interrupt import exit_status, ignore_interrupts, was_asked_to_end
from sweeps.results.terminal import print
from sweeps.spec.error_policy import EXIT_STATUS, Ended, Status, os_error_line, rule_of
from trainables.bad_input import one_line, shortened

SHOWN = 160  # characters of a command line's word in a message


def end(ended: Ended | None) -> None:
    """Exit with the status of how a script or a command ended; return after success.

    What Ctrl-C leaves in order, as a sweep on a cluster, has succeeded; other signals have their own status.
    """
    if ended == "interrupted" or (ended == "left" and exit_status() != Status.INTERRUPTED):
        ignore_interrupts()
        sys.exit(exit_status())
    if ended and (status := EXIT_STATUS.get(ended, ended)):
        sys.exit(status)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one line and the status of `error_policy.RULES`, or of a signal that came before the error.

    Errors that have no rule keep their traceback.
    """
    program = Path(sys.argv[0]).name
    try:
        yield
    except KeyboardInterrupt as stop:
        ignore_interrupts()
        print(f"\n{program}: {'; '.join(filter(None, ['interrupted', str(stop)]))}", file=sys.stderr)
        sys.exit(exit_status())
    except Exception as error:
        rule, asked = rule_of(error), was_asked_to_end()
        if rule is None and not asked:
            raise
        text = os_error_line(error) if isinstance(error, OSError) else str(error)
        if asked:  # the signal ended other processes, too, or cut short what this one did
            text = f"interrupted; {text if rule else f'{type(error).__name__}: {one_line(error)}'}"
        print(f"{program}: {in_one_line(text, sys.argv)}", file=sys.stderr)
        sys.exit(exit_status() if asked or rule is None else rule.status[0])


def in_one_line(text: str, words: Sequence[str]) -> str:
    """Return a message without line breaks, and with the long ones of a command line's words shortened in it."""
    values = {part for word in words for part in (word, word.partition("=")[2]) if len(part) > SHOWN}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, shortened(value, SHOWN)).replace(repr(value), shortened(repr(value), SHOWN))
    return text.strip().replace("\r", "\\r").replace("\n", "\\n")
