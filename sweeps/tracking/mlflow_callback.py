"""MLflow: a parent run per sweep, a child per trial.

The driver appends events to an `EventQueue`, whose thread sends them to MLflow in batches. So a server that is slow or
unreachable neither slows nor ends a sweep: the driver warns once, and the events are sent when the server is back, at
the end, or when the sweep is resumed. Runs are found by their tags before they are created, so none exists twice.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ray.tune import Callback

from sweeps.persistence.interrupt import is_disk_full
from sweeps.results.records import how_ended
from sweeps.results.run_folder import BEST, PLOTS
from sweeps.results.terminal import print
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tracking.event_queue import Event, EventQueue, read_events
from sweeps.tracking.events import metrics_of, round_of
from sweeps.tracking.mlflow_store import PARENT_TAG, SWEEP_TAG, TRIAL_TAG, Store, error_line, public, store_uri
from trainables.core import Pair
from trainables.runtime.host_client import paused

RUN_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED", "lost": "KILLED"}  # others: FAILED
LONGEST_FLUSH_S = 600.0  # an attempt at a silent server ends earlier: see the timeout in mlflow_store.ENVIRONMENT
BEST_FIRST = "orderByKey=metrics.%60best_score%60&orderByAsc=false"  # of a page's address


def _print_warning(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


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
        self._tags, self._tags_of, self._warn, self._warned = dict(sweep.tags), sweep.tags_of, warn, set[str]()
        history = read_events(folder / "events.jsonl")
        sweep_id = history[0]["tags"][SWEEP_TAG] if history else uuid.uuid4().hex
        self._store = Store(uri, experiment, sweep_id, functools.partial(self._warn_once, "refused"), folder.parent)
        self._queue = EventQueue(folder, f"{public(uri)} {experiment}", self._store.send, self._unreachable)
        self._seen = {(e["trial"], e["step"]) for e in history if "step" in e}  # rounds of trials, once each
        self._open: dict[str, bool] = {}  # trials that were started, and whether their runs are open
        self._histories: dict[str, TrialHistory] = {}
        self._paused: set[str] = set()
        for event in history:
            self._follow(event)
        if not history:
            tags = self._tags | {SWEEP_TAG: sweep_id, "mlflow.runName": sweep.name}
            self._append(None, tags=tags, params=dict(sweep.params))

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
        tags |= {"seed": sweep.seed, "commit": facts.get("commit"), "data_fingerprint": prints}
        params = {
            name: getattr(sweep, name)
            for name in ("num_samples", "rounds", "scheduler", "reduction_factor", "search", "seed")
        }
        params["grace_period"] = sweep.effective_grace_period()
        if sweep.several_bases:
            params["bases"] = ", ".join(pair.label for pair in sweep.bases().values())
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "espalier"
        tracked = TrackedSweep(sweep.name, sweep.rounds, tags, params, lambda params: of_pair(sweep.resolve(params)))
        return cls(tracked, store_uri(Path.cwd()), experiment, folder / "mlflow")

    @_never_raises
    def setup(self, **info: Any) -> None:
        if len(self._open) > 0:  # resumed
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
        tags = {"mlflow.runName": f"{len(self._open):04d} {params.pair}".rstrip(), TRIAL_TAG: trial.trial_id}
        fields = dict(params.fields) | ({"base": params.base} if params.base else {})
        self._append(trial.trial_id, params=fields, tags=self._tags | dict(self._tags_of(params)) | tags)

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
    def log_winner(self, trial_id: str) -> None:
        """Upload `best/` (adapter and config) to the winner's run, and tag the run and the sweep."""
        self._append(trial_id, folder=BEST, tags={"winner": True})
        best = {"best_trial": trial_id, "best_score": self._histories.get(trial_id, TrialHistory()).score}
        self._append(None, tags=best)

    @_never_raises
    def log_plots(self) -> None:
        """Upload the report's plots to the sweep's run."""
        self._append(None, folder=PLOTS)

    @_never_raises
    def tag(self, trial_id: str | None, tags: Mapping[str, Any]) -> None:
        """Tag a trial's run, or the sweep's (None)."""
        self._append(trial_id, tags=dict(tags))

    def flush(self, timeout_s: float = LONGEST_FLUSH_S) -> bool:
        """Send the waiting events. Return False, at once, if the server is unreachable: the events stay on disk."""
        return self._queue.flush(timeout_s)

    def close(self, timeout_s: float = LONGEST_FLUSH_S) -> bool:
        """`flush`, and end the thread. Nothing can be logged afterwards."""
        if done := self._queue.close(timeout_s):
            return done
        self._warn(f"MLflow has not got everything; it is kept in {self._queue.path} and sent when --resume opens it")
        return False

    def address(self, port: int = 5000) -> str:
        """Return the address of a page with this sweep's trials; for a database also the command that serves it."""
        own = quote(f"tags.`{PARENT_TAG}` = '{self._store.parent}'")
        page = f"/#/experiments/{self._store.experiment_id}/runs?searchFilter={own}&{BEST_FIRST}"
        page = page if self._store.parent else ""
        if self.uri.startswith("http"):
            return public(self.uri).rstrip("/") + page
        return f"`make ui` (or `espalier ui`), then http://127.0.0.1:{port}{page}"

    def _end(self, trial_id: str, ended: str) -> None:
        if self._open.get(trial_id):
            self._append(trial_id, status=RUN_STATUS.get(ended, "FAILED"), tags={"ended": ended})

    def _append(self, trial: str | None, **event: Any) -> None:
        whole = {"trial": trial, "at": int(1000 * time.time()), **event}
        self._follow(whole)
        self._queue.append(whole)

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
        self._warn_once(
            "unreachable",
            f"MLflow at {public(self.uri)} cannot be reached ({error_line(error, self.uri)}); the sweep goes on; its"
            f" events are kept in {self._queue.path} and sent when MLflow is back",
        )

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(text)
