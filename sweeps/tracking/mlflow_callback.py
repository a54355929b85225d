"""MLflow: a parent run per sweep, a child per trial.

The driver appends events to an `EventQueue`, whose thread sends them to MLflow in batches. So a server that is slow or
unreachable neither slows nor ends a sweep: the driver warns once, and the events are sent when the server is back, at
the end, or when the sweep is resumed. Runs are found by their tags before they are created, so none exists twice.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ray.tune import Callback

from sweeps.persistence.interrupt import is_disk_full, is_hurried, was_asked_to_end
from sweeps.results.leaderboard import from_the_best, rank, span
from sweeps.results.records import TrialRecord, how_ended
from sweeps.results.run_folder import BEST, PLOTS
from sweeps.results.terminal import print
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tracking.event_queue import Event, EventQueue, read_events
from sweeps.tracking.events import metrics_of, round_of
from sweeps.tracking.mlflow_store import PARENT_TAG, SWEEP_TAG, TRIAL_TAG, Store, error_line, public, store_uri
from sweeps.tracking.shared_view import KEY_TAG, NAME_TAG, view_of
from trainables.core import Pair
from trainables.runtime.host_client import paused

RUN_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED", "lost": "KILLED"}  # others: FAILED
HURRY_S, NO_TIME_S = 10.0, 1.0  # for the last events of a sweep that is asked to end, and of one that is asked twice
LONGEST_FLUSH_S = 600.0  # an attempt at a silent server ends earlier: see the timeout in mlflow_store.ENVIRONMENT
BEST_FIRST = "orderByKey=metrics.%60best_score%60&orderByAsc=false"  # of a page's address


def experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "espalier"


def _print_warning(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _patience_s() -> float:
    """Return how long events may take to be sent: not long in a process that was asked to end, twice less."""
    if is_hurried():
        return NO_TIME_S
    return HURRY_S if was_asked_to_end() else LONGEST_FLUSH_S


def source_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags from which MLflow shows a run's script and commit."""
    script, commit = next(iter(facts.get("command", ())), ""), facts.get("commit")
    return {"mlflow.source.type": "LOCAL"} | {
        name: value for name, value in (("mlflow.source.name", script), ("mlflow.source.git.commit", commit)) if value
    }


def data_of_facts(facts: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the digest of each task's data, and the task as `sweep.yaml` has it, by the task's name."""
    tasks = {pair["task"]["name"]: pair["task"] for pair in facts.get("sweep", {}).get("pairs", ())}
    return {
        name: (digest, json.dumps(tasks.get(name, {}), default=str))
        for name, digest in facts.get("data_fingerprints", {}).items()
    }


def _no_tags(params: TrialParams) -> Mapping[str, str]:
    return {}


def _never_raises(hook: Callable[..., None]) -> Callable[..., None]:
    """Warn once instead of raising: a sweep must not end because its log cannot be written, as on a full disk."""

    @functools.wraps(hook)
    def safe(self: MLflowTracking, *args: Any, **info: Any) -> None:
        try:
            hook(self, *args, **info)
        except Exception as error:
            self._warn_once("broken", f"tracking failed in {hook.__name__} ({error}); the sweep goes on")

    return safe


@dataclass(frozen=True)
class TrackedSweep:
    """The facts of a sweep that tracking logs."""

    name: str  # of the parent run
    rounds: int  # of a trial that is not stopped early
    tags: Mapping[str, Any] = field(default_factory=dict)  # of every run: task, base, seed, commit ...
    params: Mapping[str, Any] = field(default_factory=dict)  # of the parent run
    tags_of: Callable[[TrialParams], Mapping[str, str]] = _no_tags  # of a trial's run alone
    data: Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )  # by the name of a task: its digest and its source


class MLflowTracking(Callback):
    """Logs a sweep and its trials to an experiment of the MLflow store at `uri`.

    `folder` holds the event queue, and lies in the sweep's folder.
    """

    def __init__(
        self,
        sweep: TrackedSweep,
        uri: str,
        experiment: str,
        folder: Path,
        warn: Callable[[str], None] = _print_warning,
    ) -> None:
        self.uri, self.rounds = uri, sweep.rounds
        self._sweep, self._warn, self._warned = sweep, warn, set[str]()
        history = read_events(folder / "events.jsonl")
        sweep_id = history[0]["tags"][SWEEP_TAG] if history else uuid.uuid4().hex
        self._key = sweep_id[:8]  # of its view; short, as it is part of an address
        self._tags = dict(sweep.tags) | {NAME_TAG: sweep.name, KEY_TAG: self._key}
        self._store = Store(uri, experiment, sweep_id, functools.partial(self._warn_once, "refused"), folder.parent)
        self._queue = EventQueue(folder, f"{public(uri)} {experiment}", self._store.send, self._unreachable)
        self._seen = {(e["trial"], e["step"]) for e in history if "step" in e}  # rounds of trials, once each
        self._open: dict[str, bool] = {}  # trials that were started, and whether their runs are open
        self._histories: dict[str, TrialHistory] = {}
        self._paused: set[str] = set()
        self._unwritten: deque[Event] = deque()  # events that the disk has not taken
        self._resumed = bool(history)
        for event in history:
            self._follow(event)
        if not history:
            tags = self._tags | {SWEEP_TAG: sweep_id, "mlflow.runName": sweep.name}
            data = [(name, *found) for name, found in sweep.data.items()]
            self._append(
                None, tags=tags, params=dict(sweep.params), datasets=data, view=(self._key, view_of(self._key))
            )

    @classmethod
    def for_sweep(cls, sweep: Any, facts: Mapping[str, Any], folder: Path) -> MLflowTracking:
        """Return the tracking of a `Sweep` in its folder (`runs/<sweep>`); `facts` is the content of `sweep.yaml`.

        The store is MLFLOW_TRACKING_URI, or mlflow.db in the present folder; the experiment is MLFLOW_EXPERIMENT_NAME
        or `espalier`. Raises BadInput for a store that MLflow does not have.
        """

        def of_pair(pair: Pair) -> dict[str, str]:
            return {"learner": pair.learner.name, "task": pair.task.name, "base": pair.base}

        of_pairs = [of_pair(pair) for pair in sweep.pairs]
        tags: dict[str, Any] = {name: ", ".join(dict.fromkeys(one[name] for one in of_pairs)) for name in of_pairs[0]}
        prints = ", ".join(f"{task}: {value}" for task, value in facts.get("data_fingerprints", {}).items())
        tags |= {"seed": sweep.seed, "commit": facts.get("commit"), "data_fingerprint": prints} | source_tags(facts)
        params = {
            name: getattr(sweep, name)
            for name in ("num_samples", "rounds", "scheduler", "reduction_factor", "search", "seed")
        }
        params["grace_period"] = sweep.effective_grace_period()
        if sweep.several_bases:
            params["bases"] = ", ".join(pair.label for pair in sweep.bases().values())
        tracked = TrackedSweep(
            sweep.name, sweep.rounds, tags, params, lambda params: of_pair(sweep.resolve(params)), data_of_facts(facts)
        )
        return cls(tracked, store_uri(Path.cwd()), experiment_name(), folder / "mlflow")

    @classmethod
    def of_folder(cls, folder: Path) -> MLflowTracking | None:
        """Return the tracking of a sweep that was begun, to end its runs; None if the store of this environment has
        not its run or cannot be reached.
        """
        uri, (first, *_) = store_uri(Path.cwd()), read_events(folder / "mlflow" / "events.jsonl")
        store = Store(uri, experiment_name(), first["tags"][SWEEP_TAG], _print_warning)
        try:
            known = store.has_sweep()
        except Exception:  # whatever MLflow raises
            return None
        return cls(TrackedSweep(folder.name, 1), uri, experiment_name(), folder / "mlflow") if known else None

    @_never_raises
    def setup(self, **info: Any) -> None:
        if self._resumed:
            self._append(None, status="RUNNING", tags={"restored": True})

    @_never_raises
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id in self._paused:  # its run stayed open
            self._paused.discard(trial.trial_id)
        elif trial.trial_id in self._open:
            self._append(trial.trial_id, status="RUNNING", tags={"restored": True})
        else:
            self._begin(trial)

    def _begin(self, trial: Any) -> None:
        params: TrialParams = trial.config["params"]
        name = " ".join(filter(None, [self._sweep.name, params.pair, str(len(self._open))]))
        fields = dict(params.fields) | ({"base": params.base} if params.base else {})
        tags = self._tags | dict(self._sweep.tags_of(params)) | {"mlflow.runName": name, TRIAL_TAG: trial.trial_id}
        data = [(task, *found) for task, found in self._sweep.data.items() if task == tags.get("task")]
        self._append(trial.trial_id, params=fields, tags=tags, datasets=data)

    @_never_raises
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        step, row, metrics = result["training_iteration"], round_of(result), metrics_of(result)
        history = self._histories.get(trial.trial_id, TrialHistory()).with_round(row)
        if (trial.trial_id, step) in self._seen:  # repeated after a restart
            self._histories[trial.trial_id] = history
            return
        self._seen.add((trial.trial_id, step))
        if history.score is not None:
            # Logged beside `score`, because MLflow's search sees the last value of a metric only.
            metrics["best_score"] = history.score
        self._append(trial.trial_id, metrics=metrics, step=step, **({"diverged": True} if row["diverged"] else {}))
        if "memory_halvings" in metrics:
            self._append(trial.trial_id, tags={"memory_halvings": f"{metrics['memory_halvings']:.0f} by round {step}"})

    @_never_raises
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._paused |= {trial_id for trial_id in paused(trials) if self._open.get(trial_id)}

    @_never_raises
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.trial_id, how_ended(trial.last_result, self.rounds))

    @_never_raises
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id not in self._open:  # its set-up failed, so Tune did not call on_trial_start
            self._begin(trial)
        self._end(trial.trial_id, "failed")

    @_never_raises
    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """End all open runs: Tune does not report trials that a time budget or Ctrl-C ended, or that a crash lost."""
        known = {trial.trial_id: trial for trial in trials}
        for trial_id in [trial_id for trial_id, going in self._open.items() if going]:
            trial = known.get(trial_id)
            self._end(trial_id, how_ended(trial.last_result, self.rounds, trial.status == "ERROR") if trial else "lost")
        whole = all(trial.status in {"TERMINATED", "ERROR"} for trial in trials)
        self._append(None, status="FINISHED" if whole else "KILLED")

    @_never_raises
    def end_interrupted(self) -> None:
        """End all open runs, and the sweep's own as one that has not come to its end."""
        for trial_id in [trial_id for trial_id, going in self._open.items() if going]:
            self._end(trial_id, "interrupted")
        self._append(None, status="KILLED")

    @contextmanager
    def closing(self) -> Iterator[MLflowTracking]:
        """Close this at the end of the block, also after an error."""
        try:
            yield self
        finally:
            self.close()

    @_never_raises
    def log_winner(self, trial_id: str) -> None:
        """Upload `best/` (adapter and config) to the winner's run, and tag the run and the sweep."""
        self._append(trial_id, folder=BEST, tags={"winner": True})
        best = {"best_trial": trial_id, "best_score": self._histories.get(trial_id, TrialHistory()).score}
        self._append(None, tags=best)

    @_never_raises
    def log_finalist(self, trial_id: str, tags: Mapping[str, Any], score: float, folder: str | None) -> None:
        """Tag a finalist's run, and keep its first seed's files as a logged model with its score on the test split.

        `folder`: the files, by a name below the sweep's folder; None if they are not kept.
        """
        model = {"model": {"folder": folder, "metrics": {"test_score": score}}} if folder else {}
        self._append(trial_id, tags=dict(tags), **model)

    @_never_raises
    def log_leaderboard(self, records: Sequence[TrialRecord]) -> None:
        """Tag trials with the interval of their score and what differs from the best, for the sweep's view."""
        rows = rank(records)
        for row, differs in zip(rows, from_the_best(rows), strict=True):
            self._append(row.record.trial_id, tags={"interval": span(row.interval), "differs": differs})
        known = [one.params.fields for one in records]
        shared = [name for name in (known[0] if known else ()) if all(name in one for one in known)]
        axes = [name for name in shared if len({repr(one[name]) for one in known}) > 1]
        axes.sort(key=lambda name: "learning_rate" not in name)
        best = {"metrics": {"best_score": rows[0].record.score}, "step": 0} if rows and rows[0].rank else {}
        self._append(None, view=(self._key, view_of(self._key, axes)), **best)

    @_never_raises
    def log_plots(self) -> None:
        """Upload the report's plots to the sweep's run."""
        self._append(None, folder=PLOTS)

    @_never_raises
    def tag(self, trial_id: str | None, tags: Mapping[str, Any]) -> None:
        """Tag a trial's run, or the sweep's (None)."""
        self._append(trial_id, tags=dict(tags))

    def flush(self) -> bool:
        """Send the waiting events. Return False, at once, if the server is unreachable: the events stay on disk."""
        with suppress(OSError):
            self._write()
        return self._queue.flush(_patience_s()) and not self._unwritten

    def close(self, timeout_s: float | None = None) -> bool:
        """`flush`, and end the thread. Nothing can be logged afterwards. Warn of what MLflow has not got."""
        with suppress(OSError):
            self._write()
        done = self._queue.close(_patience_s() if timeout_s is None else timeout_s)
        if self._unwritten:
            self._warn(f"MLflow has not got everything, and {self._queue.path} could not be written: free some space")
            return False
        if done:
            return True
        self._warn(f"MLflow has not got everything; it is kept in {self._queue.path} and sent when --resume opens it")
        return False

    def address(self, port: int = 5000) -> str:
        """Return the address of a page with this sweep's trials; for a database also the command that serves it."""
        page = self._page() if self._store.parent else ""
        if self.uri.startswith("http"):
            return public(self.uri).rstrip("/") + page
        return f"`make ui` (or `espalier ui`), then\n  http://127.0.0.1:{port}{page}"

    def _page(self) -> str:
        runs = f"/#/experiments/{self._store.experiment_id}/runs"
        if self._store.view:
            return f"{runs}?viewStateShareKey={self._store.view}"
        own = quote(f"tags.`{PARENT_TAG}` = '{self._store.parent}'")
        return f"{runs}?searchFilter={own}&{BEST_FIRST}"

    def _end(self, trial_id: str, ended: str) -> None:
        if self._open.get(trial_id):
            self._append(trial_id, status=RUN_STATUS.get(ended, "FAILED"), tags={"ended": ended})

    def _append(self, trial: str | None, **event: Any) -> None:
        whole = {"trial": trial, "at": int(1000 * time.time()), **event}
        self._follow(whole)
        self._unwritten.append(whole)
        self._write()

    def _write(self) -> None:
        """Write the events that wait in memory, in order. Raises OSError; what could not be written waits on."""
        while self._unwritten:
            self._queue.append(self._unwritten[0])
            self._unwritten.popleft()

    def _follow(self, event: Event) -> None:
        """Update the state of a trial from an event, a new one or one of an earlier driver."""
        if (trial := event["trial"]) is None:
            return
        if "status" in event or "params" in event:
            self._open[trial] = event.get("status", "RUNNING") == "RUNNING"
        if "step" in event:
            row = event["metrics"] | {"round": event["step"], "diverged": event.get("diverged", False)}
            self._histories[trial] = self._histories.get(trial, TrialHistory()).with_round(row)

    def _unreachable(self, error: Exception) -> None:
        if is_disk_full(error):  # the disk of the event queue, or of MLflow's database
            where = self._queue.path.parent if isinstance(error, OSError) else public(self.uri)
            self._warn_once("full", f"no space left in {where}; the sweep goes on, and MLflow waits until some is free")
            return
        if isinstance(error, OSError) and str(error.filename).startswith(str(self._queue.path.parent)):
            self._warn_once("folder", f"{error.filename}: {error.strerror}; the sweep goes on, and MLflow waits")
            return
        self._warn_once(
            "unreachable",
            f"MLflow at {public(self.uri)} cannot be reached ({error_line(error, self.uri)}); the sweep goes on; its"
            f" events are kept in {self._queue.path} and sent when MLflow is back",
        )

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(text)
