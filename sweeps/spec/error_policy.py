"""The error policy: what ends a trial, a sweep or a command, and with which exit status.

docs/reference/errors.md shows both tables, and a test compares them. `sweeps/cli/ending.py` applies the second to the
error that ends a command; the code that each rule names does the rest.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Literal, NamedTuple

from search_spaces.axis import SpaceError
from trainables.bad_input import BadInput, one_line


class Status(IntEnum):
    """The exit statuses of all scripts and commands."""

    DONE = 0
    NO = 1
    BAD_INPUT = 2
    STOPPED = 3
    HUNG_UP = 129  # signals as shells report them: 128 and the number of the signal
    INTERRUPTED = 130
    TERMINATED = 143


MEANING = {
    Status.DONE: "The sweep or the command is done, also if a budget ended the search after its first scores.",
    Status.NO: "A check said no: the sweep's trials fail, `reproduce` reached another score, `doctor` found a fault.",
    Status.BAD_INPUT: "The input cannot be used. One line on standard error says what, why, and what to do.",
    Status.STOPPED: "The sweep was stopped before it had a result, and all work is kept. `--resume` goes on.",
    Status.HUNG_UP: "Ended by SIGHUP, when the terminal closed. `--resume` goes on.",
    Status.INTERRUPTED: "Ended by SIGINT, which is Ctrl-C. `--resume` goes on.",
    Status.TERMINATED: "Ended by SIGTERM, as from `kill` or a scheduler. `--resume` goes on.",
}

# How a script ended. "left": by Ctrl-C or another signal, from what goes on without this process, as a sweep on a
# cluster does. "interrupted": with the status of a signal to this process; that of another process is a Status.
Ended = Literal["finished", "left", "failed", "stopped", "interrupted"] | Status

EXIT_STATUS: dict[Ended, Status] = {
    "finished": Status.DONE,
    "left": Status.DONE,
    "failed": Status.NO,
    "stopped": Status.STOPPED,
}


class SweepEnd(NamedTuple):
    """How a script ended, and the folder of its sweep, if it ran one in this process."""

    ended: Ended
    folder: Path | None = None


class Stopped(Exception):
    """A sweep that has begun cannot go on now. The message is one line with the cause and the command that resumes."""


class Rule(NamedTuple):
    """What an error ends: nothing, the trial, the sweep, or the command that was called, and what is done then.

    `status`: of the command, if it ends. `errors`: the classes by which `rule_of` finds the rule.
    """

    what: str
    ends: Literal["nothing", "the trial", "the sweep", "the command"]
    then: str
    status: Sequence[Status] = ()
    errors: tuple[type[BaseException], ...] = ()


RULES = (
    Rule("memory runs out in a trial", "nothing", "the trial takes smaller batches, at most three times"),
    Rule("a process or a node dies", "nothing", "its trials go on from their last checkpoint, at most three times"),
    Rule("MLflow cannot be reached", "nothing", "what it was to hear is kept, and sent later"),
    Rule("the report or the mirror cannot be written", "nothing", "a warning says so; the results are there"),
    Rule("the learner refuses a combination", "nothing", "another configuration takes its place"),
    Rule("the loss is not finite", "the trial", "it has diverged, and the search avoids the region"),
    Rule("any other error in a trial", "the trial", "it has failed, and the others go on"),
    Rule("the same failure three times in a row", "the sweep", "its cause is printed; --resume goes on", [Status.NO]),
    Rule("every trial fails or diverges", "nothing", "the sweep ends without a best trial, and says so", [Status.NO]),
    Rule(
        "a disk stays full or a database locked for a minute, or a disk is read-only",
        "the sweep",
        "one line names the folder and the command that resumes",
        [Status.STOPPED],
        (Stopped,),
    ),
    Rule("a budget ends before there is a result", "the sweep", "--resume and a larger one go on", [Status.STOPPED]),
    Rule(
        "a signal: SIGHUP, SIGINT (Ctrl-C), SIGTERM",
        "the sweep",
        "all work is kept; the command that resumes is printed",
        [Status.HUNG_UP, Status.INTERRUPTED, Status.TERMINATED],
        (KeyboardInterrupt,),
    ),
    Rule("input that cannot be used", "the command", "one line", [Status.BAD_INPUT], (BadInput, SpaceError)),
    Rule(
        "Ctrl-C in `espalier ui`, or while a cluster's sweep is watched",
        "the command",
        "the sweep goes on",
        [Status.DONE],
    ),
    Rule(
        "a file or a server that the system refuses, once a sweep has begun",
        "the sweep",
        "one line with its name, the system's reason and the command that resumes",
        [Status.STOPPED],
    ),
    Rule(
        "a file or a server that the system refuses, otherwise",
        "the command",
        "one line with its name and the system's reason",
        [Status.BAD_INPUT],
        (OSError,),
    ),
    Rule("a check says no", "the command", "its finding is printed", [Status.NO]),
    Rule("anything else", "the command", "a fault of Espalier: a traceback, please report it", [Status.NO]),
)


def rule_of(error: BaseException) -> Rule | None:
    """Return the rule for an error that ends a command; None for one that Espalier did not foresee."""
    if any(kind.__module__.startswith("ray.") for kind in type(error).__mro__):
        return None  # Ray's error of a task is of its cause's class, too, and a timeout of Ray's an OSError
    return next((rule for rule in RULES if isinstance(error, rule.errors)), None)


# The system's reasons, and what to do.
REMEDIES = {
    errno.EACCES: "give one that this user may use, or change its rights",
    errno.EPERM: "give one that this user may use, or change its rights",
    errno.EROFS: "give one on a disk that can be written to",
    errno.ENOSPC: "free some space there, or give another disk",
    errno.EDQUOT: "free some space there, or give another disk",
    errno.ENOENT: "give one that exists",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "give a path whose parents are folders",
    errno.EEXIST: "give another name",
    errno.ENAMETOOLONG: "give a shorter one",
    errno.ELOOP: "its links lead to one another: give the file itself",
    errno.EMFILE: "raise the limit of open files: `ulimit -n 4096`",
}


def os_error_line(error: OSError) -> str:
    """Return what the system refused in one line: the path, the reason, and what to do."""
    if error.filename is None or error.strerror is None:
        return one_line(error)
    path = error.filename2 or error.filename
    path = path.decode(errors="replace") if isinstance(path, bytes) else path
    return str(BadInput(f"{path}:", error.strerror, REMEDIES.get(error.errno or 0, "")))
