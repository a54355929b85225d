"""Closes the runs in MLflow that a killed driver has left open, for whoever looks at its folder next."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sweeps.persistence.lock import driver, driving
from sweeps.results.terminal import print
from sweeps.tracking.event_queue import read_events, whole_events

EVENTS, DELIVERED = "mlflow/events.jsonl", "mlflow/delivered"  # in a sweep's folder


def close_left_open(folder: Path) -> None:
    """Close them, and send what MLflow was to hear and has not heard, if no driver lives. Print a line if that is done.

    It is done where the sweep wrote to: in the store of this folder and environment, if that has a run of the sweep. A
    folder from somebody else changes nothing. A store that cannot be reached now is for the next command, or --resume.
    """
    try:
        if driver(folder) is None and _lacks_an_end(folder):
            with driving(folder):
                _tell_the_rest(folder)
    except Exception:  # no queue, a damaged one, a folder that may only be read: the command does without
        return


def _lacks_an_end(folder: Path) -> bool:
    content, mark = (folder / EVENTS).read_bytes(), folder / DELIVERED
    waiting = mark.exists() and int(mark.read_text().split()[0]) < content.rfind(b"\n") + 1
    return waiting or has_open_runs(whole_events(content))


def _tell_the_rest(folder: Path) -> None:
    from sweeps.tracking.mlflow_callback import HURRY_S, MLflowTracking  # imports Ray

    tracking = MLflowTracking.of_folder(folder) if _lacks_an_end(folder) else None  # another command may be faster
    if tracking is None:
        return
    if has_open_runs(read_events(folder / EVENTS)):
        tracking.end_interrupted()
    if tracking.close(HURRY_S):
        print(f"told MLflow how {folder} ended, as its driver was killed or could not", file=sys.stderr)


def has_open_runs(events: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a run that these events began, a trial's or the sweep's, has not ended in them."""
    status: dict[str | None, str] = {}
    for event in events:
        status[event["trial"]] = event.get("status", status.get(event["trial"], "RUNNING"))
    return "RUNNING" in status.values()
