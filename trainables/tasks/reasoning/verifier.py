"""Score an answer with the verifier of a reasoning-gym data set, and check that verifiers can be believed.

Some verifiers evaluate an answer as Python code. A model's text must not run, so that code is refused while a verifier
works: an audit hook (PEP 578) sees every text that is to be compiled.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from trainables.bad_input import BadInput

NONSENSE = "xyzzy ?!"
MOST_FOR_NONSENSE = 0.5  # some verifiers give a hundredth for any answer, or a letter's share
CONSTANTS = ("0", "1", "")  # answers that say nothing about the question
HUGE = re.compile(r"\d[eE][+-]?\d{4,}")  # as a number, it takes minutes and gigabytes to write out
_guarded = threading.local()


class VerifierFault(BadInput):
    """A verifier cannot be used; one line without the generator's name."""


class _CodeRefused(RuntimeError):
    """A verifier wanted to run an answer as code."""


def verified(dataset: Any, entry: Mapping[str, Any], completion: str) -> float:
    """Return what the data set's own `score_answer` gives a completion without surrounding space, in [0, 1].

    An answer at which it raises an error, or that it would run as code, scores 0. So does a number with an exponent of
    four digits, unless it is the listed answer.
    """
    if HUGE.search(completion) and completion.strip() != entry["answer"]:
        return 0.0
    _install_hook()
    _guarded.on = True
    try:
        return min(1.0, max(0.0, float(dataset.score_answer(completion.strip(), entry))))
    except Exception:  # verifiers parse answers, and raise whatever their parsers do
        return 0.0
    finally:
        _guarded.on = False


def check_verifier(dataset: Any, entry: Mapping[str, Any]) -> None:
    """Raise VerifierFault if the listed answer does not get 1, or nonsense gets as much as half."""
    if not isinstance(entry["answer"], str):
        raise VerifierFault(f"lists no answer to {_shown(entry)}")
    _guarded.refused = False
    score = verified(dataset, entry, entry["answer"])
    if score != 1:
        why = ": it runs answers as Python code" if _guarded.refused else ""
        raise VerifierFault(
            f"lists the answer {entry['answer'][:40]!r} to {_shown(entry)}, and its verifier gives it {score:.2f}{why}"
        )
    if (score := verified(dataset, entry, NONSENSE)) >= MOST_FOR_NONSENSE:
        raise VerifierFault(f"has a verifier that gives {score:.2f} to the answer {NONSENSE!r} to {_shown(entry)}")


def check_constants(dataset: Any, entries: Sequence[Mapping[str, Any]]) -> None:
    """Raise VerifierFault if one answer to everything gets half of the score where another answer is listed.

    Tried are `CONSTANTS` and the answer that is listed most often.
    """
    often = [answer for answer, count in Counter(entry["answer"] for entry in entries).most_common(1) if count > 1]
    for constant in dict.fromkeys([*CONSTANTS, *often]):
        others = [entry for entry in entries if entry["answer"] != constant]
        scores = [verified(dataset, entry, constant) for entry in others]
        if scores and (mean := sum(scores) / len(scores)) >= MOST_FOR_NONSENSE:
            raise VerifierFault(
                f"has a verifier that gives {mean:.2f} on average to {constant!r:.42}, though it is wrong"
            )


def _shown(entry: Mapping[str, Any]) -> str:
    return repr(" ".join(str(entry["question"]).split())[:60])


@cache
def _install_hook() -> None:
    sys.addaudithook(_refuse_code)  # it stays, as hooks do, and does nothing outside of `verified`


def _refuse_code(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise at `eval` or `exec` of a text. Modules are compiled under a file's name, and may be imported."""
    if event == "compile" and getattr(_guarded, "on", False) and arguments[1] == "<string>":
        _guarded.refused = True
        raise _CodeRefused
