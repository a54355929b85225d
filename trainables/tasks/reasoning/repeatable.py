"""Check that a generator draws the same questions in another process.

Some generators walk through sets of texts, whose order Python chooses anew for each process (PYTHONHASHSEED). Trials in
other processes would then train on questions that this process asks in the test split.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache

from trainables.tasks.reasoning.generators import PREFIX, Generator
from trainables.tasks.reasoning.questions import Sizes, draw

MODULE = "trainables.tasks.reasoning.repeatable"  # `__name__` in the other process is another


@lru_cache(maxsize=16)
def check_repeatable(drawn: tuple[tuple[Generator, Sizes], ...], seed: int) -> None:
    """Raise ValueError if another process draws other questions from one of the generators."""
    here = [draw(generator, seed, sizes).fingerprint() for generator, sizes in drawn]
    hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    asked = json.dumps([[generator.name, generator.values, sizes] for generator, sizes in drawn])
    command = [sys.executable, "-P", "-m", MODULE, str(seed), asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise ValueError(f"a second process cannot draw the questions: {' '.join(told)}; run `make reasoning-gym`")
    for (generator, _), ours, theirs in zip(drawn, here, done.stdout.split(), strict=True):
        if ours != theirs:
            raise ValueError(
                f"{PREFIX}{generator.name} draws other questions in every process, so its splits cannot be kept apart;"
                " leave this generator out"
            )


def _main(seed: str, asked: str) -> None:
    for name, values, sizes in json.loads(asked):
        pairs: Sequence[tuple[str, str]] = [(parameter, value) for parameter, value in values]
        with contextlib.redirect_stdout(sys.stderr):  # some generators print
            drawn = draw(Generator(name, tuple(pairs)), int(seed), Sizes(*sizes))
        print(drawn.fingerprint())


if __name__ == "__main__":
    _main(*sys.argv[1:])
