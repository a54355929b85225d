"""Train finalists again and ask them questions of the test split, in stages, until a winner is told apart.

`results/decision.py` plans the stages; this file runs them and keeps what they give.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from sweeps.resources.worker_groups import worker_group_shape
from sweeps.results.allocation import MOST_QUESTIONS, Costs, Sizes
from sweeps.results.confirmation import Confirmation, Spending
from sweeps.results.decision import FIRST_BUDGET, RESERVE, Budget, next_stage
from sweeps.results.finals import additions
from sweeps.results.records import Candidate, Final, clusters_of, is_untouched, ranked, reference_name
from sweeps.results.run_folder import Run
from sweeps.results.terminal import print
from sweeps.spec.sweep import Sweep
from sweeps.tuning.clock import Clock
from sweeps.tuning.finalists import Answers, TrialPlaces, measure_untouched, measured, run_jobs
from trainables.core import Example, Pair
from trainables.runtime.host_client import WAIT_FOR_HOST_S
from trainables.runtime.trial import STATE_FILE, FinalistJob

FEWEST_SEEDS = 2  # of a finalist that is not plainly worse
MOST_SEEDS = 30
KEPT = re.compile(r"finalists/[\w-]+/checkpoint_\d+")  # where states are; a run's folder may name other places


@dataclass
class Finalists:
    """The finalists of a sweep while they are trained: what each seed answered, by name."""

    sweep: Sweep
    places: TrialPlaces
    folder: Path
    candidates: Mapping[str, Candidate]
    answers: dict[str, list[Answers]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    checkpoints: dict[str, tune.Checkpoint] = field(default_factory=dict)  # of first seeds, by trial id
    seconds: float = 0.0  # wall-clock time of all stages

    @classmethod
    def of_run(cls, left: Run, sweep: Sweep, places: TrialPlaces) -> Finalists:
        """Return the finalists that a sweep has left, with their states and costs."""
        known, spending = left.confirmation, left.confirmation.spending
        assert spending is not None, "finalists of this version know what they cost"
        records = {one.trial_id: one for one in left.records}
        candidates, answers, checkpoints = {}, {}, {}
        for one in known.finals:
            train = spending.costs.train[one.name]
            ask = 0.0 if one.is_untouched else spending.costs.ask[one.name] * one.scores.shape[1]
            states = [state if KEPT.fullmatch(state) else "" for state in one.states] or [""] * len(one.scores)
            texts = one.completions or ((),) * len(one.scores)
            answers[one.name] = [
                Answers(tuple(row.tolist()), tuple(said), train, ask, state=state)
                for row, said, state in zip(one.scores, texts, states, strict=True)
            ]
            if one.trial_id is not None and one.rounds is not None:
                params = records[one.trial_id].params
                candidates[one.name] = Candidate(one.trial_id, one.name, params, one.rounds, one.searched)
                if states[0]:
                    checkpoints[one.trial_id] = tune.Checkpoint(str(left.folder.resolve() / states[0]))
        lost = dict(known.lost)
        return cls(sweep, places, left.folder, candidates, answers, lost, checkpoints, spending.seconds)

    def extend(self, sizes: Sizes) -> bool:
        """Train and ask until each finalist has these seeds and questions. Return False if Ctrl-C came first."""
        jobs = [job for name in self.candidates for job in self._jobs(name, *sizes.get(name, (0, 0)))]
        untouched = self._ask_untouched(sizes)
        start = time.monotonic()
        ends = run_jobs(self.sweep, jobs, self.places, self.folder) if jobs else []
        if ends is None:
            return False
        for job, end in zip(jobs, ends, strict=True):
            self.keep(job, end)
        for name, reference in untouched.items():
            if (before := measured(reference, WAIT_FOR_HOST_S, name)).get("items"):
                self._keep_untouched(name, before)
        self.seconds += time.monotonic() - start
        return True

    def _jobs(self, name: str, seeds: int, questions: int) -> list[FinalistJob]:
        if name in self.lost:
            return []
        one, known = self.candidates[name], self.answers.get(name, [])
        jobs = []
        for seed in range(seeds):
            first = len(known[seed].items) if seed < len(known) else 0
            state = str(self.folder.resolve() / known[seed].state / STATE_FILE) if first else ""
            if first < questions:
                job = FinalistJob(
                    name, one.params, one.rounds, self.sweep.finalist_seed + seed, (first, questions), state
                )
                jobs.append(job)
        return jobs

    def keep(self, job: FinalistJob, end: Answers) -> None:
        """Add the end of a job to what is known. A configuration that fails or diverges with one seed is lost."""
        if end.fault:
            self.lost[job.name] = f"{end.fault} with seed {job.seed}"
            self.answers.pop(job.name, None)
        if job.name in self.lost:
            return
        seeds = self.answers.setdefault(job.name, [])
        if job.state:
            place = job.seed - self.sweep.finalist_seed
            seeds[place] = seeds[place].followed_by(end)
            return
        trial_id = self.candidates[job.name].trial_id
        if not seeds and end.checkpoint:
            self.checkpoints[trial_id] = end.checkpoint
        seeds.append(replace(end, state=self._state_of(end)))

    def _state_of(self, end: Answers) -> str:
        """Return the checkpoint's folder below that of the sweep; empty if its state was too large to keep."""
        folder = Path(end.checkpoint.path) if end.checkpoint else None
        if folder is None or not (folder / STATE_FILE).is_file():
            return ""
        return folder.relative_to(self.folder.resolve()).as_posix()

    def _ask_untouched(self, sizes: Sizes) -> dict[str, Any]:
        """Return, by name, Ray's references to the answers before training, to questions that were not asked yet."""
        most, found = max((asked for _, asked in sizes.values()), default=0), {}
        for name, pair in self.references.items():
            known, questions = self.answers.get(name, []), sizes.get(name, (1, most))[1]
            first = len(known[0].items) if known else 0
            if first < questions:
                on_test = replace(pair, task=pair.task.with_search(pair.task.test_up_to(questions)[first:questions]))
                hosts, workers = self.places.hosts, worker_group_shape(self.sweep)
                found[name] = measure_untouched(self.sweep, on_test, hosts, workers)
        return found

    @property
    def references(self) -> dict[str, Pair]:
        """What is asked before training, by name. One base is asked for all learners on it, the first of those with
        different learners on different bases without labels."""
        pairs = [self._before(pair) for pair in reversed(self.sweep.pairs)]
        return {name: pair for pair in pairs if (name := reference_name(pair))}

    def _before(self, pair: Pair) -> Pair:
        """Return the pair as it is asked before training: without a base, with the values that the sweep fixes."""
        return pair if pair.learner.needs_base else self.sweep.as_fixed(pair)

    def _keep_untouched(self, name: str, metrics: Mapping[str, Any]) -> None:
        end = Answers(tuple(metrics["items"]), tuple(metrics.get("completions") or ()))
        known = self.answers.get(name)
        self.answers[name] = [known[0].followed_by(end) if known else end]

    def finals(self) -> list[Final]:
        """Return the finalists that have a score with every seed, and what was asked before training; the best
        first."""
        found, several = list[Final](), self.sweep.several_bases
        before = {pair.name: reference_name(self._before(pair)) for pair in self.sweep.pairs}
        for name, seeds in self.answers.items():
            one = self.candidates.get(name)
            known = (one.searched, one.trial_id, one.rounds) if one else (None, None, None)
            scores = np.array([seed.items for seed in seeds])
            said = tuple(seed.completions for seed in seeds if seed.completions)
            states, pair = tuple(seed.state for seed in seeds), one.params.pair if one and several else ""
            own = before.get(one.params.pair, "") if one else None
            found.append(Final(name, known[0], scores, known[1], known[2], said, states, pair, own))
        return ranked(found)

    def costs(self, only_once: Sequence[str]) -> Costs:
        """Return what more seeds and questions cost. Finalists of `only_once` get no second seed.

        A finalist's own seconds are those of its device. The others, of waiting and starting, are shared in proportion.
        """
        trained = {name: seeds for name, seeds in self.answers.items() if not is_untouched(name)}
        train = {name: float(np.mean([one.train_seconds for one in seeds])) for name, seeds in trained.items()}
        ask = {
            name: sum(one.ask_seconds for one in seeds) / sum(len(one.items) for one in seeds)
            for name, seeds in trained.items()
        }
        own = sum(one.train_seconds + one.ask_seconds for seeds in trained.values() for one in seeds)
        train, ask = ({name: value * self.seconds / own for name, value in cost.items()} for cost in (train, ask))
        usual = float(np.mean([*ask.values()]))
        for name in filter(is_untouched, self.answers):
            train[name], ask[name] = 0.0, usual
        kept = all(one.state for seeds in trained.values() for one in seeds)
        most = len(self.questions(MOST_QUESTIONS)) if kept and not self.sweep.per_example else 0
        seeds = {name: 1 if name in only_once or is_untouched(name) else MOST_SEEDS for name in train}
        return Costs(train, ask, seeds, max(most, max(len(one[0].items) for one in self.answers.values())))

    def questions(self, count: int) -> Sequence[Example]:
        """Return the first `count` questions of the test split, or of those that the task can make beyond it."""
        return self.sweep.pairs[0].task.test_up_to(count)[:count]


def confirm(
    finalists: Finalists, only_once: Sequence[str], record: Callable[[Confirmation], None], clock: Clock | None = None
) -> Confirmation | None:
    """Train and ask finalists until a winner is told apart or the budget is used up; `record` gets each result.

    Finalists of `only_once` are confirmed by one seed and no more. The budget is a multiple of the first stage's costs,
    or what a `clock` has left. After Ctrl-C, return what was known before the stage; None in the first two stages.
    """
    for left in finalists.folder.glob("finalists/*/checkpoint_*"):
        shutil.rmtree(left)  # an earlier driver was killed before it recorded them
    first = clock.design.questions if clock else len(finalists.sweep.pairs[0].task.test())
    if not finalists.extend(dict.fromkeys(finalists.candidates, (1, first))):
        return None
    seconds = finalists.seconds + clock.left if clock else FIRST_BUDGET * finalists.seconds
    sweep = finalists.sweep
    before = sweep.earlier
    known = Confirmation(independent=sweep.independent, look=before.count + 1, spent=before.rate, again=before.again)
    reserve = 0.0 if sweep.independent else RESERVE  # then nothing is left to decide
    budget = Budget(seconds, known.level * (1 - reserve), early=clock is None)
    return go_on(finalists, known, budget, only_once, record)


def go_on(
    finalists: Finalists,
    known: Confirmation,
    budget: Budget,
    only_once: Sequence[str],
    record: Callable[[Confirmation], None],
) -> Confirmation | None:
    """Run stages until `next_stage` plans no further one."""
    result = None if not known.looks else known
    while True:
        if not finalists.answers.keys() & finalists.candidates.keys():  # all are lost
            if result is None:
                result = Confirmation(lost=dict(finalists.lost), look=known.look, spent=known.spent, again=known.again)
                record(result)
            return result
        costs = finalists.costs(only_once)
        spending = Spending(finalists.seconds, budget.seconds, costs)
        finals = finalists.finals()
        longest = finalists.questions(max(one.scores.shape[1] for one in finals))
        clusters = clusters_of([example.key for example in longest])
        known = replace(known, finals=finals, clusters=clusters, lost=dict(finalists.lost), spending=spending)
        now = known.progress()
        look = now.look(budget)
        if look and not (known.looks and known.looks[-1].sizes == look.sizes):
            known = replace(known, looks=[*known.looks, look])
            result = known
            record(known)
        sizes = next_stage(known.progress(), budget, costs)
        if sizes is None:
            return result
        tell(known, sizes)
        if not finalists.extend(sizes):
            if result:
                print("stopped: what is known so far counts, and `espalier decide` goes on")
            return result


def tell(known: Confirmation, sizes: Sizes) -> None:
    """Print how the best stands, and what the next stage does."""
    stands = ""
    if known.looks and len(known.finals) > 1:
        best = known.comparisons()[0]
        stands = f"{best.first} leads {best.second} ({best.in_points()}); "
    print(f"finalists: {stands}next: {additions(known, sizes)}", flush=True)
