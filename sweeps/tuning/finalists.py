"""After the search: train the best again with other seeds, and score them on the test split, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from sweeps.persistence.interrupt import graceful_interrupt
from sweeps.resources.ray_cluster import seat_resources
from sweeps.resources.worker_groups import worker_group_shape
from sweeps.results.finals import SEEDS
from sweeps.results.records import UNTOUCHED, Candidate, Final
from sweeps.spec.sweep import Sweep
from sweeps.tuning.stopping import cause_of, error_of
from trainables.core import Pair, Split
from trainables.packed.specs import WorkerGroupShape
from trainables.runtime.host_client import WAIT_FOR_HOST_S, FreeSeatsCallback
from trainables.runtime.trial import Finalist, Hosts, Trial, untouched_scores


@dataclass(frozen=True)
class TrialPlaces:
    """Where trials run, in the search and as finalists."""

    hosts: Hosts
    workers: WorkerGroupShape | None  # processes that train each trial, if not its own process or a host does
    at_once: int | None  # trials; None: as many as their resources allow


def confirm(
    sweep: Sweep, chosen: Sequence[Candidate], places: TrialPlaces, folder: Path
) -> tuple[list[Final], dict[str, tune.Checkpoint], dict[str, str]] | None:
    """Train every candidate with `SEEDS` seeds, and score it and the first untouched base on the test split.

    Return the finalists that have a score with every seed; by trial id, the checkpoint of the first seed (choosing the
    best seed would be choosing by luck); by name, why other candidates are left out.
    Return None after Ctrl-C: the test split is scored only once, so an incomplete comparison would stand for ever.
    """
    based = next((pair for pair in sweep.pairs if _answers(pair)), None)
    untouched = measure_untouched(sweep, based, places.hosts, worker_group_shape(sweep), "test") if based else None
    trials = _train_again(sweep, chosen, places, folder)
    ended = [trial for trial in trials if trial.status == "ERROR" or "score" in trial.last_result]
    if len(ended) < SEEDS * len(chosen):  # Tune says "TERMINATED" of trials that Ctrl-C ended, too
        return None
    finals, checkpoints, lost = group_by_candidate(trials, chosen)
    before = measured(untouched, WAIT_FOR_HOST_S) if untouched is not None else {}
    return [*finals, *([_final(UNTOUCHED, [before])] if before.get("items") else [])], checkpoints, lost


def _train_again(sweep: Sweep, chosen: Sequence[Candidate], places: TrialPlaces, folder: Path) -> list[Any]:
    """Run a Tune trial for each candidate and seed, and return the trials."""
    jobs = [
        {"candidate": index, "params": one.params, "rounds": one.rounds, "seed": sweep.seed + 1 + seed}
        for index, one in enumerate(chosen)
        for seed in range(SEEDS)
    ]
    free_seats = FreeSeatsCallback([host for of_base in places.hosts.values() for host in of_base])
    with graceful_interrupt():
        analysis = tune.run(
            trainable(Finalist, sweep, places),
            name="finalists",
            storage_path=str(folder.resolve()),
            config={"job": tune.grid_search(jobs)},
            max_concurrent_trials=places.at_once,
            reuse_actors=True,
            max_failures=1,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            raise_on_failed_trial=False,
            trial_dirname_creator=lambda trial: trial.trial_id,
            callbacks=[FinalistProgress(chosen), free_seats],
            verbose=0,
        )
    return analysis.trials


def group_by_candidate(
    trials: Sequence[Any], chosen: Sequence[Candidate]
) -> tuple[list[Final], dict[str, tune.Checkpoint], dict[str, str]]:
    """Group Tune's trials by candidate. A candidate that failed or diverged with one seed is lost."""
    ended: dict[int, list[Any]] = {}
    lost: dict[str, str] = {}
    for trial in sorted(trials, key=lambda trial: trial.config["job"]["seed"]):
        job = trial.config["job"]
        if why := _fault(trial):
            lost[chosen[job["candidate"]].name] = f"{why} with seed {job['seed']}"
        else:
            ended.setdefault(job["candidate"], []).append(trial)
    finals, checkpoints = [], {}
    for index, candidate in enumerate(chosen):
        results = [trial.last_result for trial in ended.get(index, [])]
        if len(results) == SEEDS:
            finals.append(_final(candidate.name, results, candidate))
            checkpoints[candidate.trial_id] = ended[index][0].checkpoint
    return finals, checkpoints, lost


def _fault(trial: Any) -> str:
    """Return why a trial has no score; an empty string if it has one."""
    if trial.status == "ERROR":
        return f"failed ({cause_of(error_of(trial))})"
    return "diverged" if trial.last_result.get("diverged") else ""


def _final(name: str, results: Sequence[Any], candidate: Candidate | None = None) -> Final:
    """Return a finalist with its scores per seed and question; without a candidate it is the untouched base."""
    scores = np.array([result["items"] for result in results])
    completions = tuple(tuple(result["completions"]) for result in results if result.get("completions"))
    if candidate is None:
        return Final(name, None, scores, completions=completions)
    return Final(name, candidate.searched, scores, candidate.trial_id, candidate.rounds, completions)


class FinalistProgress(tune.Callback):
    """Prints a line when a finalist ends, because each takes as long as a whole trial."""

    def __init__(self, chosen: Sequence[Candidate]) -> None:
        self._chosen = chosen

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        self._print(trial, "diverged" if result.get("diverged") else f"{100 * result['score']:.1f} % of the test split")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._print(trial, f"failed, and with it the configuration is left out: {cause_of(error_of(trial))}")

    def _print(self, trial: Any, end: str) -> None:
        job = trial.config["job"]
        print(f"  {self._chosen[job['candidate']].name}, seed {job['seed']}: {end}", flush=True)


def measure_untouched(
    sweep: Sweep, pair: Pair, hosts: Hosts, workers: WorkerGroupShape | None, split: Split = "search"
) -> Any:
    """Return Ray's reference to the metrics of the pair's base before training. They are measured beside the trials.

    Outside a host the measurement asks Ray for a trial's GPU, and waits for it as a trial does, but for no core.
    """
    if pair.base in hosts:
        return hosts[pair.base][0].untouched.remote(pair, sweep.seed, split)
    gpus = 0 if workers else sweep.resources_per_trial.get("gpu", 0)  # worker processes ask for GPUs of their own
    measuring = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=1)(untouched_scores)
    return measuring.remote(pair, sweep.seed, split, workers)


def measure_bases(sweep: Sweep, hosts: Hosts, workers: WorkerGroupShape | None) -> dict[str, Any]:
    """Return, by learner, a reference to its base's metrics before training, measured once for each base and task."""
    known: dict[tuple[str, str, str], Any] = {}
    found = {}
    for pair in sweep.pairs:
        if _answers(pair):
            prompts = pair.learner.name if pair.learner.only_task else ""  # it has prompts of its own
            key = (pair.base, repr(pair.task), prompts)
            if key not in known:
                known[key] = measure_untouched(sweep, pair, hosts, workers)
            found[pair.learner.name] = known[key]
    return found


def measured(reference: Any, within_s: float) -> dict[str, Any]:
    """Wait for the metrics of `measure_untouched`. If it failed, print why and return none: the sweep continues."""
    try:
        return dict(ray.get(reference, timeout=within_s))
    except ray.exceptions.GetTimeoutError:
        print(f"the untouched base was not measured within {within_s:g} s: `ray status` says what it waits for")
        return {}
    except ray.exceptions.RayError as fault:
        reason = str(getattr(fault, "cause", None) or fault).strip().splitlines()[-1]
        print(f"the untouched base was not measured: {reason}", flush=True)
        return {}


def _answers(pair: Pair) -> bool:
    """Return whether the learner's answers come from a base, which can then be measured before training."""
    return pair.learner.needs_base and pair.learner.base_answers


def trainable(kind: type[Trial], sweep: Sweep, places: TrialPlaces) -> Any:
    """Return what Tune runs, with its resources.

    Resources that are given to `tune.run` would be restored on resume: if the driver's node has another address then,
    trials would wait for the old one for ever.
    """
    hosts, workers = places.hosts, places.workers
    of_a_sweep = tune.with_parameters(kind, resolve=sweep.resolve, seed=sweep.seed, hosts=hosts, workers=workers)
    return tune.with_resources(of_a_sweep, seat_resources() if hosts or workers else dict(sweep.resources_per_trial))
