"""Events that tracking logs, and their merging into one update per run. It uses no server and no files.

An event is a dictionary: `trial` (its id; None is the sweep itself), `at` (milliseconds), and any of `params`, `tags`,
`metrics` with `step`, `status` (of an MLflow run), `folder` to upload: the name of a folder in the sweep's folder,
`datasets` (name, digest and source of each), `view`: a key, and the view of the sweep on MLflow's pages under this key.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.tune.result import AUTO_RESULT_KEYS, TIME_TOTAL_S, TRAINING_ITERATION
from ray.tune.utils import flatten_dict

from sweeps.results.trial_history import has_diverged

# Keys of a result that Tune adds, and those that are no metrics.
NOT_METRICS = {
    *AUTO_RESULT_KEYS,
    "config",
    "items",
    "completions",
    "done",
    "should_checkpoint",
    "checkpoint_dir_name",
    "iterations_since_restore",
}
LONGEST_VALUE = 1000  # characters of a parameter or tag; MLflow takes 6,000, and 1 MB a request


@dataclass
class Update:
    """Changes of one run. `metrics` are (name, value, milliseconds, step); `status` is the latest."""

    trial: str | None
    began: int
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    status: str | None = None
    ended: int = 0
    folders: list[str] = field(default_factory=list)  # to upload, by their names in the sweep's folder
    models: list[dict[str, Any]] = field(default_factory=list)  # finalists: folder, metrics and time
    datasets: list[tuple[str, str, str]] = field(default_factory=list)  # name, digest, source
    view: tuple[str, dict[str, Any]] | None = None  # its key, and what it shows


def merge(events: Iterable[Mapping[str, Any]]) -> list[Update]:
    """Merge events into one update per run, in order of first appearance. Later tags and status win."""
    updates: dict[str | None, Update] = {}
    for event in events:
        update = updates.setdefault(event["trial"], Update(event["trial"], event["at"]))
        update.params |= {_name(k): _text(v) for k, v in event.get("params", {}).items()}
        update.tags |= {_name(k): _text(v) for k, v in event.get("tags", {}).items()}
        update.metrics += [(_name(k), v, event["at"], event["step"]) for k, v in event.get("metrics", {}).items()]
        if "status" in event:
            update.status, update.ended = event["status"], event["at"]
        if "folder" in event:
            update.folders.append(event["folder"])
        if "model" in event:
            update.models.append(event["model"] | {"at": event["at"]})
        update.datasets += [(name, digest, source) for name, digest, source in event.get("datasets", ())]
        if "view" in event:
            key, state = event["view"]
            update.view = key, state
    return list(updates.values())


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that a learner reported in a Tune result, nested ones as `outer/inner`; no flags, no texts."""
    own = flatten_dict({k: v for k, v in result.items() if k not in NOT_METRICS})
    return {k: float(v) for k, v in own.items() if isinstance(v, numbers.Real) and not isinstance(v, bool)}


def round_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Tune result as a row of a `TrialHistory`; `time_s` counts from the trial's start."""
    timed = {"round": result[TRAINING_ITERATION], "time_s": result.get(TIME_TOTAL_S, 0.0)}
    return timed | metrics_of(result) | {"diverged": has_diverged(result)}


def _name(name: str) -> str:
    """MLflow takes letters, digits and _ - . space : / in names."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


def _text(value: Any) -> str:
    return str(value)[:LONGEST_VALUE]
