"""After the search: train the best again with other seeds, and ask the test split, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from sweeps.persistence.interrupt import graceful_interrupt
from sweeps.resources.ray_cluster import seat_resources
from sweeps.resources.worker_groups import team_of
from sweeps.results.finals import SEEDS
from sweeps.results.records import UNTOUCHED, Candidate, Final
from sweeps.results.trial_params import from_axes, to_axes
from sweeps.spec.sweep import Sweep
from sweeps.tuning.stopping import cause_of, error_of
from trainables.core import Pair, Split
from trainables.packed.specs import WorkerGroupShape
from trainables.runtime.host_client import WAIT_FOR_HOST_S, FreeSeatsCallback
from trainables.runtime.trial import Finalist, Hosts, Trial, untouched_scores


def confirm(
    sweep: Sweep,
    chosen: Sequence[Candidate],
    hosts: Hosts,
    team: WorkerGroupShape | None,
    side_by_side: int | None,
    folder: Path,
) -> tuple[list[Final], dict[str, tune.Checkpoint], dict[str, str]] | None:
    """Every candidate with `SEEDS` seeds, and the first base untouched. One that fails or diverges is left out.

    With them, by trial id, what the first of the seeds trained: not the best of them, which would be luck again. Then,
    by name, why others are left out.
    None where Ctrl-C came first: whoever was done by then would win for ever, as the test split is asked once.
    """
    based = next((pair for pair in sweep.pairs if _answers(pair)), None)
    untouched = measure_untouched(sweep, based, hosts, team_of(sweep), "test") if based else None
    jobs = [
        {
            "candidate": index,
            "params": to_axes(one.params, sweep.learners),
            "rounds": one.rounds,
            "seed": sweep.seed + 1 + seed,
        }
        for index, one in enumerate(chosen)
        for seed in range(SEEDS)
    ]
    with graceful_interrupt():
        done = tune.run(
            trainable(Finalist, sweep, hosts, team),
            name="finalists",
            storage_path=str(folder.resolve()),
            config={"job": tune.grid_search(jobs)},
            max_concurrent_trials=side_by_side,
            reuse_actors=True,
            max_failures=1,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            raise_on_failed_trial=False,
            trial_dirname_creator=lambda trial: trial.trial_id,
            callbacks=[_Told(chosen), FreeSeatsCallback([host for of_base in hosts.values() for host in of_base])],
            verbose=0,
        )
    over = [trial for trial in done.trials if trial.status == "ERROR" or "score" in trial.last_result]
    if len(over) < len(jobs):  # Tune says "TERMINATED" of what it broke off, too
        return None
    ended: dict[int, list[Any]] = {}
    lost: dict[str, str] = {}
    for trial in sorted(done.trials, key=lambda trial: trial.config["job"]["seed"]):
        job = trial.config["job"]
        if why := _fault(trial):
            lost[chosen[job["candidate"]].name] = f"{why} with seed {job['seed']}"
        else:
            ended.setdefault(job["candidate"], []).append(trial)
    finals, first = [], {}
    for index, one in enumerate(chosen):
        results = [trial.last_result for trial in ended.get(index, [])]
        if len(results) == SEEDS:
            finals.append(_final(one.name, results, one))
            first[one.trial_id] = ended[index][0].checkpoint
    before = measured(untouched, WAIT_FOR_HOST_S) if untouched is not None else {}
    return [*finals, *([_final(UNTOUCHED, [before])] if before.get("items") else [])], first, lost


def _fault(trial: Any) -> str:
    """Why a trial has no score; empty if it has one."""
    if trial.status == "ERROR":
        return f"failed ({cause_of(error_of(trial))})"
    return "diverged" if trial.last_result.get("diverged") else ""


def _final(name: str, results: Sequence[Any], of: Candidate | None = None) -> Final:
    scores = np.array([result["items"] for result in results])
    said = tuple(result["completions"] for result in results if "completions" in result)
    if of is None:
        return Final(name, None, scores, completions=said)
    return Final(name, of.searched, scores, of.trial_id, of.rounds, said)


class _Told(tune.Callback):
    """A line per finalist, as each takes as long as a whole trial."""

    def __init__(self, chosen: Sequence[Candidate]) -> None:
        self._chosen = chosen

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        said = "diverged" if result.get("diverged") else f"{100 * result['score']:.1f} % of the test split"
        self._say(trial, said)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._say(trial, f"failed, and with it the configuration is left out: {cause_of(error_of(trial))}")

    def _say(self, trial: Any, said: str) -> None:
        job = trial.config["job"]
        print(f"  {self._chosen[job['candidate']].name}, seed {job['seed']}: {said}", flush=True)


def measure_untouched(
    sweep: Sweep, pair: Pair, hosts: Hosts, team: WorkerGroupShape | None, split: Split = "search"
) -> Any:
    """A reference to the metrics of the pair's base before any training, which are measured beside the trials.

    Outside a host it takes the device of a trial, and its turn among them; it takes nobody's core.
    """
    if pair.base in hosts:
        return hosts[pair.base][0].untouched.remote(pair, sweep.seed, split)
    gpus = 0 if team else sweep.resources_per_trial.get("gpu", 0)  # a team's processes have their own
    measuring = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=1)(untouched_scores)
    return measuring.remote(pair, sweep.seed, split, team)


def measure_bases(sweep: Sweep, hosts: Hosts, team: WorkerGroupShape | None) -> dict[str, Any]:
    """By learner, a reference to its base's own metrics: measured once per base and task, beside the trials."""
    known: dict[tuple[str, str, str], Any] = {}
    found = {}
    for pair in sweep.pairs:
        if _answers(pair):
            prompts = pair.learner.name if pair.learner.only_task else ""  # it asks in a way of its own
            key = (pair.base, repr(pair.task), prompts)
            if key not in known:
                known[key] = measure_untouched(sweep, pair, hosts, team)
            found[pair.learner.name] = known[key]
    return found


def measured(reference: Any, within_s: float) -> dict[str, Any]:
    """The metrics behind a reference; none, and a line that says why, where measuring failed: no sweep ends for it."""
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
    """Whether what the pair's learner says is said by a base."""
    return pair.learner.needs_base and pair.learner.base_answers


def trainable(kind: type[Trial], sweep: Sweep, hosts: Hosts, team: WorkerGroupShape | None) -> Any:
    """What Tune runs. Its resources are its own, and not those of `tune.run`, which a resumed trial would keep: where
    the driver's node has got another address, it would wait for the old one for ever."""
    of_a_sweep = tune.with_parameters(kind, resolve=partial(pair_of, sweep), seed=sweep.seed, hosts=hosts, team=team)
    return tune.with_resources(of_a_sweep, seat_resources() if hosts or team else dict(sweep.resources_per_trial))


def pair_of(sweep: Sweep, axes: Mapping[str, Any]) -> Pair:
    return sweep.resolve(from_axes(axes, sweep.learners[0]))
