"""How much of the disk a sweep takes at most, for `--plan`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.spec.sweep import Sweep
from sweeps.tuning.finalists import LARGEST_STATE
from trainables.core import Pair

RUNNING = 3  # checkpoints of a trial that runs: its best, its latest, and the one that is being written
RESTING = 2  # of one that is paused, or has ended in a sweep with `--keep`: its best and its latest
TRIAL_BYTES, ROUND_BYTES, ANSWER_BYTES = 96 * 2**10, 4 * 2**10, 64  # a trial in Tune's state, twice, and in the tables
SWEEP_BYTES = 4 * 2**20  # the database, the report and its plots


def search_bytes(
    sweep: Sweep, probes: Sequence[Mapping[str, Any]], running: int, a_second: float, stays_s: float
) -> int:
    """Return how large a sweep's folder is at most during the search.

    `running` trials train at a time, `a_second` rounds end in a second, and a checkpoint that no trial wants any more
    stays for `stays_s`. Rounds may be twice as fast as those that were measured.
    """
    young = running + math.ceil(2 * a_second * stays_s)
    checkpoint = max(cost["checkpoint"] for cost in probes)
    answers = max(len(pair.task.search()) for pair in sweep.pairs)
    records = TRIAL_BYTES + ROUND_BYTES * sweep.rounds + ANSWER_BYTES * answers
    return round(checkpoint * checkpoints_at_most(sweep, running, young) + records * sweep.num_samples) + SWEEP_BYTES


def checkpoints_at_most(sweep: Sweep, running: int, young: int) -> int:
    """Return how many checkpoints of the search lie on disk at the same time, at most.

    They are those of trials that run or are paused, that of the best that has ended, and its adapter in `best/`; beside
    these, `young` ones that a snapshot may still name.
    """
    trials = sweep.num_samples
    running = min(running, trials)
    if sweep.keep:
        count = RESTING * trials + (RUNNING - RESTING) * running
    else:
        count = RUNNING * running + _of_paused(sweep, trials - running) + 1
    return min(count + young, trials * sweep.rounds) + 1


def _of_paused(sweep: Sweep, trials: int) -> int:
    """Return the checkpoints of paused trials, at most; `trials` may pause.

    At a rung no more trials of a pair are paused than may still be among the best 1 / `reduction_factor` of those that
    reach it (`promotion.hopeless`). Of N trials and P pairs, whose shares are not known before, that is at most
    P / (P + reduction_factor - 1) N when (reduction_factor - 1) / (P + reduction_factor - 1) N are still to come; and
    one of each pair in any case.
    """
    if sweep.scheduler != "asha":
        return 0
    pairs = len(sweep.pairs)
    at_rung = sweep.num_samples * pairs // (pairs + sweep.reduction_factor - 1) + pairs
    count = 0
    for rung in reversed(sweep.rungs()[:-1]):  # at later ones a trial has more checkpoints
        here = min(at_rung, trials)
        count, trials = count + here * min(RESTING, rung), trials - here
    return count


def finalists_bytes(sweep: Sweep, probes: Sequence[Mapping[str, Any]], configurations: int, trainings: int) -> int:
    """Return how much so many trainings of finalists add. Of states that are too large to keep, adapters are left.

    A learner with a model for each question has those of the test split in its state, in place of the search split's.
    """
    checkpoint = max(cost["checkpoint"] * _of_test(pair) for pair, cost in zip(sweep.pairs, probes, strict=True))
    kept = trainings if checkpoint <= LARGEST_STATE else configurations
    questions = max(len(pair.task.test()) for pair in sweep.pairs)
    return round(checkpoint * kept + (TRIAL_BYTES + 4 * ANSWER_BYTES * questions) * trainings)


def _of_test(pair: Pair) -> float:
    return len(pair.task.test()) / len(pair.task.search()) if pair.learner.per_example else 1.0
