"""The `tune.Trainable` of all trials: it opens a pair's learner and runs it round by round.

No torch at module level, so that a trial whose work is done in a host takes little memory.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune

from trainables.core import Evaluation, Learner, Pair, RoundResult
from trainables.packed.specs import Shape, WorkerGroupShape
from trainables.runtime.open_learner import open_in_process

Hosts = Mapping[str, Sequence[Any]]  # base -> Ray actors that hold it, see `host_actor`

STATE_FILE, ROUND_FILE, SECONDS_FILE, ADAPTER_FOLDER = "state.pt", "round.txt", "seconds.txt", "adapter"
CLONES = "clones"  # in a sweep's folder: the states from which clones start
CLONE = re.compile(rf"{CLONES}/trial-[0-9]+-round-([0-9]+)\.pt")
WORST_SCORE = 0.0


def use_threads(count: int) -> None:
    """Compute with so many threads in this process, whether torch is imported already or will be."""
    os.environ |= {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def open_learner(
    pair: Pair,
    seed: int,
    trial_id: str = "solo",
    hosts: Hosts | None = None,
    searching: bool = True,
    shape: Shape | None = None,
    workers: WorkerGroupShape | None = None,
) -> Learner:
    """Open a pair's learner: in a host that has its base, in a group of processes (`workers`), or in this process.

    `searching`: each round will be followed by an evaluation on the search split. `shape`: of a host in this process.
    """
    if workers is not None:
        from trainables.runtime.worker_group import WorkerGroup

        return WorkerGroup(workers, pair, seed)
    if hosts and pair.base in hosts:
        from trainables.runtime.host_client import HostClient

        return HostClient(hosts[pair.base], pair, seed, trial_id, searching)
    return open_in_process(pair, seed, trial_id, shape)


def untouched_scores(pair: Pair, seed: int, workers: WorkerGroupShape | None = None) -> dict[str, Any]:
    """Return the evaluation of the pair's base before training, or of its learner without a base, as a flat
    dictionary."""
    if not pair.learner.needs_base:
        return _evaluated(pair.learner.build(None, pair.task, seed))
    if workers is not None:
        return _untouched_by(workers, pair, seed)
    from trainables.models.loading import load
    from trainables.packed.host import Host
    from trainables.runtime.base_transfer import fetch_base

    base = load(fetch_base(pair.base))  # this task may run on any machine
    learner = pair.learner.build(base, pair.task, seed)
    if not isinstance(learner, Learner):
        return Host(base).evaluate_untouched(learner).flat()
    return _evaluated(learner)


def _evaluated(learner: Any) -> dict[str, Any]:
    try:
        return learner.evaluate().flat()
    finally:
        learner.close()


def _untouched_by(workers: WorkerGroupShape, pair: Pair, seed: int) -> dict[str, Any]:
    """Evaluate the untrained learner of a worker group, which is the base itself."""
    from trainables.runtime.worker_group import WorkerGroup

    learner = WorkerGroup(workers, pair, seed)
    try:
        return learner.evaluate().flat()
    finally:  # else its processes and their devices would outlive this task
        learner.shut_down()


def tune_result(trained: RoundResult | None, evaluation: Evaluation | None) -> dict[str, Any]:
    """Return the flat dictionary that Ray Tune gets after a round and its evaluation.

    No evaluation means that the training diverged: the trial ends (`done`) with the worst score.
    """
    result = trained.flat() if trained is not None else {}
    if evaluation is None:
        return result | {"score": WORST_SCORE, "items": [], "diverged": True, "done": True}
    return result | evaluation.flat() | {"diverged": False}


class Trial(tune.Trainable):
    """One configuration. `step` is one round: train, evaluate, report; checkpoints hold the learner's whole state.

    It reports, beside the learner's metrics: `train_seconds` and `evaluation_seconds` of this round, `seconds`, their
    sum, and `total_seconds`, the sum over all rounds. In a host these are the trial's share of the host's time
    (`Host.round`), otherwise wall-clock time. None of them includes waiting for other trials, or checkpoints.

    `config["params"]` are the trial's parameters, which `resolve` turns into a pair; their `start` is None or, for a
    clone, the file in the sweep's folder with the state that it continues. `seed` is the sweep's, so that trials differ
    only in what is searched; `hosts` maps bases to their host actors; `workers` are for trials on several devices; a
    trial that trains in this process does so with `threads`, whatever OMP_NUM_THREADS says. A loss that is not finite
    ends the trial at once with the worst score and `diverged` set.
    """

    _learner: Any = None

    def setup(
        self,
        config: dict[str, Any],
        resolve: Callable[[Any], Pair] | None = None,
        seed: int = 0,
        hosts: Hosts | None = None,
        workers: WorkerGroupShape | None = None,
        threads: int = 1,
    ) -> None:
        assert resolve is not None, "start it with tune.with_parameters(Trial, resolve=..., seed=...)"
        self._resolve, self._seed, self._hosts, self._workers = resolve, seed, hosts, workers
        if not hosts and workers is None:
            use_threads(threads)
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._learner.close()
        self._learner = None  # before there is a second model
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        self._iteration = max(self._iteration, self._began)  # Tune sets it to zero after `reset_config`
        start = time.perf_counter()
        trained: RoundResult = self._learner.round()
        seconds = trained.metrics.get("train_seconds", time.perf_counter() - start)
        reported, evaluation = {"train_seconds": seconds}, None
        if math.isfinite(trained.loss):
            start = time.perf_counter()
            evaluation = self._learner.evaluate()
            own = evaluation.metrics.get("evaluation_seconds", time.perf_counter() - start)
            reported["evaluation_seconds"] = own
            seconds += own
        self._seconds += seconds
        result = tune_result(trained, evaluation) | reported
        result.pop("completions", None)  # only a finalist's are kept
        return result | {"seconds": seconds, "total_seconds": self._seconds}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        size = (Path(checkpoint_dir) / STATE_FILE).write_bytes(self._learner.state())
        (Path(checkpoint_dir) / ROUND_FILE).write_text(f"{self._iteration} {size}")
        (Path(checkpoint_dir) / SECONDS_FILE).write_text(str(self._seconds))
        folder = Path(checkpoint_dir) / ADAPTER_FOLDER
        folder.mkdir()
        self._learner.save(str(folder))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        self._learner.load((Path(checkpoint_dir) / STATE_FILE).read_bytes())
        self._seconds = float((Path(checkpoint_dir) / SECONDS_FILE).read_text())

    def cleanup(self) -> None:
        try:
            if self._learner is not None:  # None if it could not be opened
                self._learner.close()
        finally:
            if self._workers is not None:
                from trainables.runtime.worker_group import WorkerGroup

                WorkerGroup.shut_down()  # the processes outlive a trial, but not this process

    def _start(self, config: dict[str, Any]) -> None:
        self._began, self._seconds = 0, 0.0
        self._open(config)

    def _open(self, config: dict[str, Any]) -> None:
        params = config["params"]
        self._learner = open_learner(
            self._resolve(params), self._seed, self.trial_id, self._hosts, workers=self._workers
        )
        if params.start is not None:  # `_storage` and `_iteration` are private to Tune: tests/e2e/test_private_names.py
            assert self._storage is not None, "Tune gives a trial one"
            self._began = load_start_state(self._learner, Path(self._storage.storage_fs_path), params.start)


def load_start_state(learner: Learner, folder: Path, start: str) -> int:
    """Load the state from which a clone starts, a file of the sweep's folder; return after how many rounds it was kept.

    Raises ValueError for a path that `espalier clone` does not write, or for a link: the path comes from a file.
    """
    named, file = CLONE.fullmatch(str(start)), folder / str(start)
    if named is None or file.is_symlink() or file.parent.is_symlink():
        raise ValueError(
            f"start_from is {str(start)!r}; a clone starts from a file of its own sweep, clones/trial-N-round-R.pt"
        )
    learner.load(file.read_bytes())
    return int(named[1])


@dataclass(frozen=True)
class FinalistJob:
    """A finalist's training with one random seed, or further questions to what such a training left.

    `params`: the parameters, as a trial has them. `questions`: the place of the first in the test split, and that after
    the last. `state`: the file of a state to ask, in place of a training.
    """

    name: str
    params: Any
    rounds: int
    seed: int
    questions: tuple[int, int]
    state: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it apart from other jobs of its stage."""
        return self.name, self.seed, self.questions[0]


class Finalist(Trial):
    """A configuration trained again with another seed, without evaluations, and asked questions of the test split.

    `config["job"]` is a `FinalistJob`. It reports `train_seconds` and `evaluation_seconds`, as `Trial` does.
    """

    def step(self) -> dict[str, Any]:
        trained: RoundResult | None = None
        train_seconds = 0.0
        for _ in range(0 if self._job.state else self._job.rounds):
            start = time.perf_counter()
            trained = self._learner.round()
            train_seconds += trained.metrics.get("train_seconds", time.perf_counter() - start)
            if not math.isfinite(trained.loss):
                return tune_result(trained, None)
            if self._workers is not None:
                self._learner.state()  # from which restarted processes would continue
        start = time.perf_counter()
        evaluation = self._learner.evaluate()
        ask_seconds = evaluation.metrics.get("evaluation_seconds", time.perf_counter() - start)
        seconds = {"train_seconds": train_seconds, "evaluation_seconds": ask_seconds}
        return tune_result(trained, evaluation) | seconds | {"done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        if self._job.state:  # it lies elsewhere, and asking has not changed it
            (Path(checkpoint_dir) / STATE_FILE).touch()
        else:
            super().save_checkpoint(checkpoint_dir)

    def _open(self, config: dict[str, Any]) -> None:
        self._job: FinalistJob = config["job"]
        pair = self._resolve(self._job.params)
        first, end = self._job.questions
        pair = replace(pair, task=pair.task.with_search(pair.task.test_up_to(end)[first:end]))
        self._learner = open_learner(
            pair, self._job.seed, self.trial_id, self._hosts, searching=False, workers=self._workers
        )
        if self._job.state:
            self._learner.load(Path(self._job.state).read_bytes())
