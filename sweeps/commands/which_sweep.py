"""Which sweep a command means that was given no folder: one that runs, or else the latest."""

from __future__ import annotations

import sys
from pathlib import Path

from sweeps.persistence.lock import driver
from sweeps.results.run_folder import SWEEP_FILE
from sweeps.results.terminal import print, printable
from trainables.bad_input import BadInput

ROOT = Path("runs")


def meant(run: Path | None) -> Path:
    """Return the folder that was given, or that of the only sweep that runs here, or of the latest.

    If several run, a person at a terminal is asked. Raise BadInput if there is none, or if nobody can be asked.
    """
    if run is not None:
        return run
    running = sorted(folder for folder in sweeps_in(ROOT) if driver(folder) is not None)
    if len(running) > 1:
        return _asked(running)
    return running[0] if running else latest()


def latest(root: Path = ROOT) -> Path:
    """Return the folder of the sweep that was started last. Raise BadInput if there is none."""
    found = sweeps_in(root)
    if not found:
        raise BadInput(root.resolve(), "has no sweep", "start one, or name its folder")
    return max(found, key=lambda folder: (folder / SWEEP_FILE).stat().st_mtime)


def sweeps_in(root: Path) -> list[Path]:
    """Return the folders of sweeps in a folder; a chain's phases lie deeper."""
    return [file.parent for file in (*root.glob(f"*/{SWEEP_FILE}"), *root.glob(f"*/*/{SWEEP_FILE}"))]


def _asked(running: list[Path]) -> Path:
    names = ", ".join(map(str, running))
    if not can_ask():
        raise BadInput(f"{len(running)} sweeps run here:", names, "name the folder of the one that you mean")
    for number, folder in enumerate(running, start=1):
        print(f"  {number}  {folder}")
    said = answer("which one? ")
    chosen = {str(number): folder for number, folder in enumerate(running, start=1)}
    chosen |= {name: folder for folder in running for name in (str(folder), folder.name)}
    if said not in chosen:
        raise BadInput(repr(printable(said)), f"is none of {names}", "name the folder of one")
    return chosen[said]


def can_ask() -> bool:
    """Return whether a person sees what is printed and can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def answer(question: str) -> str:
    """Ask a person at the terminal, and return the words; none if the input ends (Ctrl-D)."""
    print(question, end="", flush=True)
    return sys.stdin.readline().strip()
