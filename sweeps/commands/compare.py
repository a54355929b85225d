"""`espalier compare`: which of two sweeps has the better finalist, as far as their questions tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from sweeps.results import plain
from sweeps.results.leaderboard import percent, span
from sweeps.results.run_folder import Run
from sweeps.results.terminal import print, print_json
from sweeps.results.two_sweeps import Difference, difference_of
from sweeps.spec.open_run import open_run
from trainables.bad_input import BadInput


def compare(first: Path, second: Path, /, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """Compare the finalists of two sweeps of the same task, paired by question where both were asked the same ones.

    Args:
        first: a sweep's folder
        second: another sweep's folder
        as_json: print one line of JSON, as docs/reference/json.md describes it
    """
    runs = [open_run(folder) for folder in (first, second)]
    if runs[0].folder.resolve() == runs[1].folder.resolve():
        raise BadInput(f"{first} and {second}", "are the same sweep", "name another")
    for run in runs:
        if run.confirmation.best_trained is None:
            raise BadInput(
                run.folder, "has no finalists, and search scores are too high to compare", "run it with --finalists 2"
            )
    tasks = [_task(run) for run in runs]
    if tasks[0] != tasks[1]:
        about = f"is about {tasks[0]} and {runs[1].folder} about {tasks[1]}: scores of different tasks do not compare"
        raise BadInput(runs[0].folder, about, "name two sweeps of one task")
    found = difference_of(runs)
    if as_json:
        print_json("compare", plain.difference(found))
    else:
        _print_difference(found)


def _print_difference(found: Difference) -> None:
    if found.common:
        print(f"finalists of both sweeps, on {found.common} questions that both were asked:")
    else:
        print("warning: the sweeps were asked different questions, so only large differences show")
        print("finalists of both sweeps, each on its own questions:")
    for name, score, bounds in found.rows:
        print(f"  {name}: {percent(score)} ({span(bounds)})")
    if found.left_out:
        print(f"left out, as they were asked fewer questions: {', '.join(found.left_out)}")
    low, high = (100 * end for end in found.interval)
    apart = f"{100 * found.difference:+.1f} points, 95 % interval {low:.1f} to {high:.1f}; p = {found.p:.2g}"
    verdict = "is better than" if found.is_shown else "cannot be told apart from"
    print(f"{found.first} {verdict} {found.second} ({apart}, corrected for all finalists)")


def _task(run: Run) -> str:
    """Return the name of a sweep's task, with its class if that is not Espalier's."""
    task = run.facts["sweep"]["pairs"][0]["task"]
    return task["name"] if task["class"].startswith("trainables.") else f"{task['name']} ({task['class']})"
