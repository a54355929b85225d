"""Run finalists' jobs with Ray Tune, and measure bases before training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from sweeps.persistence.interrupt import graceful_interrupt
from sweeps.resources.ray_cluster import seat_resources
from sweeps.results.records import UNTOUCHED
from sweeps.results.terminal import print
from sweeps.spec.sweep import Sweep
from sweeps.tuning.stopping import cause_of, error_of, is_of_disk
from trainables.core import Pair
from trainables.packed.specs import WorkerGroupShape
from trainables.runtime.host_client import FreeSeatsCallback
from trainables.runtime.trial import ADAPTER_FOLDER, STATE_FILE, Finalist, FinalistJob, Hosts, Trial, untouched_scores

LARGEST_MODEL = 64 * 2**20  # bytes of a finalist's files, of which MLflow keeps a copy
LARGEST_STATE = 256 * 2**20  # bytes; larger states are not kept, so that their finalists are asked nothing further


@dataclass(frozen=True)
class TrialPlaces:
    """Where trials run, in the search and as finalists."""

    hosts: Hosts
    workers: WorkerGroupShape | None  # processes that train each trial, if not its own process or a host does
    at_once: int | None  # trials; None: as many as their resources allow


@dataclass(frozen=True)
class Answers:
    """The end of a job: a score in [0, 1] and, from learners that write text, a completion for each question.

    Seconds are those of the devices. `fault` says why there is no score.
    """

    items: tuple[float, ...] = ()
    completions: tuple[str, ...] = ()
    train_seconds: float = 0.0
    ask_seconds: float = 0.0
    checkpoint: tune.Checkpoint | None = None
    state: str = ""  # the checkpoint's folder below that of the sweep; empty if it is not kept
    fault: str = ""

    def followed_by(self, more: Answers) -> Answers:
        """Return these answers and those to the questions after them."""
        return replace(
            self,
            items=self.items + more.items,
            completions=self.completions + more.completions,
            ask_seconds=self.ask_seconds + more.ask_seconds,
        )


def run_jobs(sweep: Sweep, jobs: Sequence[FinalistJob], places: TrialPlaces, folder: Path) -> list[Answers] | None:
    """Run a Tune trial for each job, and return their ends in order; None after Ctrl-C.

    Raises the error of a trial that met a full disk: its configuration is none the worse for it.
    """
    free_seats = FreeSeatsCallback([host for of_base in places.hosts.values() for host in of_base])
    with graceful_interrupt() as was_pressed:
        analysis = tune.run(
            trainable(Finalist, sweep, places),
            name="finalists",
            storage_path=str(folder.resolve()),
            config={"job": tune.grid_search(list(jobs))},
            max_concurrent_trials=places.at_once,
            reuse_actors=True,
            max_failures=1,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            raise_on_failed_trial=False,
            trial_dirname_creator=lambda trial: trial.trial_id,
            callbacks=[FinalistProgress(), LargeStates(sweep.finalist_seed), free_seats],
            verbose=0,
        )
    for error in (error_of(trial) for trial in analysis.trials if trial.status == "ERROR"):
        if is_of_disk(error):
            raise error
    ended = {trial.config["job"].key: trial for trial in analysis.trials}
    # Tune says "TERMINATED" of trials that Ctrl-C ended, too.
    trials = [ended.get(job.key) for job in jobs]
    if was_pressed() or any(
        trial is None or not (trial.status == "ERROR" or "score" in trial.last_result) for trial in trials
    ):
        return None
    return [answers_of(trial) for trial in trials]


def answers_of(trial: Any) -> Answers:
    """Return the end of one of Tune's trials."""
    if trial.status == "ERROR":
        return Answers(fault=f"failed ({cause_of(error_of(trial))})")
    result = trial.last_result
    if result.get("diverged"):
        return Answers(fault="diverged")
    seconds = (result["train_seconds"], result["evaluation_seconds"])
    return Answers(tuple(result["items"]), tuple(result.get("completions") or ()), *seconds, trial.checkpoint)


def model_folder(checkpoint: tune.Checkpoint, folder: Path) -> str | None:
    """Return where a finalist's adapter lies below the sweep's `folder`; None if it is too large for a copy."""
    saved = Path(checkpoint.path) / ADAPTER_FOLDER
    files = [one for one in saved.rglob("*") if one.is_file()]
    if not files or sum(one.stat().st_size for one in files) > LARGEST_MODEL:
        return None
    return saved.relative_to(folder.resolve()).as_posix()


class LargeStates(tune.Callback):
    """Deletes states that are too large to keep many, with all else of their checkpoints but the first seed's adapter,
    which `best/` may need."""

    def __init__(self, first_seed: int) -> None:
        self._first_seed = first_seed

    def on_checkpoint(
        self, iteration: int, trials: list[Any], trial: Any, checkpoint: tune.Checkpoint, **info: Any
    ) -> None:
        state = Path(checkpoint.path) / STATE_FILE
        if state.stat().st_size <= LARGEST_STATE:
            return
        state.unlink()
        if trial.config["job"].seed != self._first_seed:
            shutil.rmtree(state.with_name(ADAPTER_FOLDER))


class FinalistProgress(tune.Callback):
    """Prints a line when a finalist ends, because each takes as long as a whole trial."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result, (first, end) = trial.last_result, trial.config["job"].questions
        score = f"{100 * result['score']:.1f} % of {f'questions {first + 1} to {end}' if first else f'{end} questions'}"
        self._print(trial, "diverged" if result.get("diverged") else score)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._print(trial, f"failed, and with it the configuration is left out: {cause_of(error_of(trial))}")

    def _print(self, trial: Any, end: str) -> None:
        job = trial.config["job"]
        print(f"  {job.name}, seed {job.seed}: {end}", flush=True)


def measure_untouched(sweep: Sweep, pair: Pair, hosts: Hosts, workers: WorkerGroupShape | None) -> Any:
    """Return Ray's reference to the metrics of the pair's base before training. They are measured beside the trials.

    Outside a host the measurement asks Ray for a trial's GPU, and waits for it as a trial does, but for no core.
    """
    if pair.base in hosts:
        return hosts[pair.base][0].untouched.remote(pair, sweep.seed)
    gpus = 0 if workers else sweep.resources_per_trial.get("gpu", 0)  # worker processes ask for GPUs of their own
    measuring = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=1)(untouched_scores)
    return measuring.remote(pair, sweep.seed, workers)


def measure_bases(sweep: Sweep, hosts: Hosts, workers: WorkerGroupShape | None) -> dict[str, Any]:
    """Return, by pair, a reference to its base's metrics before training, measured once for each base and task."""
    known: dict[tuple[str, str, str], Any] = {}
    found = {}
    for pair in sweep.pairs:
        if base_answers(pair):
            prompts = pair.learner.name if pair.learner.only_task else ""  # it has prompts of its own
            key = (pair.base, repr(pair.task), prompts)
            if key not in known:
                known[key] = measure_untouched(sweep, pair, hosts, workers)
            found[pair.name] = known[key]
    return found


def measured(reference: Any, within_s: float, name: str = UNTOUCHED) -> dict[str, Any]:
    """Wait for the metrics of `measure_untouched`. If it failed, print why and return none: the sweep continues."""
    try:
        return dict(ray.get(reference, timeout=within_s))
    except ray.exceptions.GetTimeoutError:
        print(f"the {name} was not measured within {within_s:g} s: `ray status` says what it waits for")
        return {}
    except ray.exceptions.RayError as fault:
        reason = str(getattr(fault, "cause", None) or fault).strip().splitlines()[-1]
        print(f"the {name} was not measured: {reason}", flush=True)
        return {}


def base_answers(pair: Pair) -> bool:
    """Return whether the learner's answers come from a base, which can then be measured before training."""
    return pair.learner.needs_base and pair.learner.base_answers


def threads_of_trial(sweep: Sweep) -> int:
    """Return the threads of a trial that trains in its own process: the whole cores that it asks for, or one."""
    return max(1, int(sweep.resources_per_trial.get("cpu", 1)))


def trainable(kind: type[Trial], sweep: Sweep, places: TrialPlaces) -> Any:
    """Return what Tune runs, with its resources.

    Resources that are given to `tune.run` would be restored on resume: if the driver's node has another address then,
    trials would wait for the old one for ever.
    """
    hosts, workers, threads = places.hosts, places.workers, threads_of_trial(sweep)
    of_a_sweep = tune.with_parameters(
        kind, resolve=sweep.resolve, seed=sweep.seed, hosts=hosts, workers=workers, threads=threads
    )
    return tune.with_resources(of_a_sweep, seat_resources() if hosts or workers else dict(sweep.resources_per_trial))
