"""Searchers and schedulers that `search.py` replays: those of a sweep, and rivals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher

from benchmarks.curves import Curves
from benchmarks.replay import AT_ONCE
from sweeps.results.allocation import MOST_QUESTIONS
from sweeps.results.decision import FIRST_BUDGET
from sweeps.results.power import smallest_shown
from sweeps.results.records import TrialRecord
from sweeps.results.trial_params import Observation, TrialParams
from sweeps.spec.sweep import Sweep
from sweeps.tracking.events import round_of
from sweeps.tuning.further_gain import UNLIKELY, FurtherGain
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from sweeps.tuning.promotion import Limits, PromotingASHA
from trainables.runtime.trial import tune_result


class Pool:
    """The configurations of a recording that one sweep has not used yet."""

    def __init__(self, curves: Curves) -> None:
        self.curves, self._used = curves, np.zeros(len(curves), bool)

    def nearest(self, params: Mapping[str, Any]) -> int:
        """Take the nearest unused configuration."""
        distances = np.where(self._used, np.inf, self.curves.distances(params))
        found = int(distances.argmin())
        assert not self._used[found], "a sweep has no more trials than there are configurations"
        self._used[found] = True
        return found


class NearestRecorded(BaseSampler):
    """Replaces each suggestion of a sampler by the nearest unused recorded configuration, and tells the study that one.

    `last` is the configuration of the trial that was asked for last.
    """

    def __init__(self, sampler: BaseSampler, pool: Pool) -> None:
        self._sampler, self._pool, self.last = sampler, pool, -1

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        axes = self._pool.curves.space.axes
        return {name: axis for name, axis in axes.items() if not axis.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        own = self._sampler.infer_relative_search_space(study, trial)
        drawn = dict(self._sampler.sample_relative(study, trial, own))
        for name, axis in search_space.items():
            if name not in drawn:
                drawn[name] = self._sampler.sample_independent(study, trial, name, axis)
        self.last = self._pool.nearest(drawn)
        recorded = self._pool.curves.params[self.last]
        return {name: recorded[name] for name in search_space if name in recorded}

    def taken(self, config: Mapping[str, Any]) -> int:
        """Return the configuration of the trial that was asked for last; of one that was queued, and so not drawn, the
        nearest."""
        last, self.last = self.last, -1
        return self._pool.nearest(config["params"].fields) if last < 0 else last

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()


class TuneSearch:
    """A Tune searcher and a Tune scheduler, called in the order in which Tune's controller calls them.

    The scheduler gets this object as its controller, of which schedulers use `get_trials`, `search_alg` and
    `stop_trial`. `configuration_of` returns the configuration of the trial that the searcher has just suggested.
    `records` is where a scheduler finds the trials' scores, each of so many questions, if it does not keep them itself.
    """

    def __init__(
        self,
        searcher: Searcher,
        scheduler: TrialScheduler,
        configuration_of: Callable[[Mapping[str, Any]], int],
        rounds: int,
        num_samples: int,
        records: dict[str, TrialRecord] | None = None,
        asked: int = 0,
    ) -> None:
        self._searcher, self._scheduler = searcher, scheduler
        self._records: dict[str, TrialRecord] = {} if records is None else records
        self._configuration_of, self._rounds, self._left = configuration_of, rounds, num_samples
        self._asked = asked
        self._trials: list[Trial] = []
        self._configurations: list[int] = []
        scheduler.set_search_properties("score", "max")

    def get_trials(self) -> list[Trial]:
        return self._trials

    def trials(self, curves: Curves) -> list[TrialRecord]:
        """Return the trials with the configurations that they had."""
        own = zip(self._records.values(), self._configurations, strict=True)
        return [replace(one, params=TrialParams("", curves.params[place])) for one, place in own]

    @property
    def search_alg(self) -> TuneSearch:
        return self

    def is_finished(self) -> bool:
        return not self._left

    def stop_trial(self, trial: Trial) -> None:
        """End a paused trial for good."""
        self._searcher.on_trial_complete(trial.trial_id)
        trial.set_status(Trial.TERMINATED)

    def next(self) -> tuple[int, int] | None:
        if self._left and all(trial.status != Trial.PENDING for trial in self._trials):
            self._suggest()
        trial = self._scheduler.choose_trial_to_run(self)  # type: ignore[arg-type]
        if trial is None:
            return None
        trial.set_status(Trial.RUNNING)
        number = int(trial.trial_id)
        return number, self._configurations[number]

    def _suggest(self) -> None:
        trial_id = f"{len(self._trials):05d}"
        config = self._searcher.suggest(trial_id)
        if config == Searcher.FINISHED:
            self._left = 0
        if not isinstance(config, dict):
            return
        self._left -= 1
        self._configurations.append(self._configuration_of(config))
        trial = Trial("replay", config={"params": TrialParams("", {})}, trial_id=trial_id, stub=True)
        params = trial.config["params"]
        self._records[trial_id] = TrialRecord(trial_id, len(self._trials), params, "running", n_items=self._asked)
        self._trials.append(trial)
        self._scheduler.on_trial_add(self, trial)  # type: ignore[arg-type]

    def told(self, trial: int, round_: int, score: float, diverged: bool) -> bool:
        own = self._trials[trial]
        result = tune_result(None, None) if diverged else {"score": score, "diverged": False}
        result |= {"training_iteration": round_, "trial_id": own.trial_id}
        # As `SweepStopper` and `done` have it, before the scheduler is asked.
        decision = TrialScheduler.STOP
        if round_ < self._rounds and not diverged:
            decision = self._scheduler.on_trial_result(self, own, result)  # type: ignore[arg-type]
        own.update_last_result(dict(result))
        record = self._records[own.trial_id]
        self._records[own.trial_id] = replace(record, history=record.history.with_round(round_of(result)))
        if decision == TrialScheduler.STOP:
            self._scheduler.on_trial_complete(self, own, result)  # type: ignore[arg-type]
            self._searcher.on_trial_complete(own.trial_id, result=result)
            own.set_status(Trial.TERMINATED)
        else:
            self._searcher.on_trial_result(own.trial_id, result)
        if decision == TrialScheduler.PAUSE:
            own.set_status(Trial.PAUSED)
        return decision == TrialScheduler.CONTINUE


class RandomSearcher(Searcher):
    """Suggests recorded configurations in random order."""

    def __init__(self, curves: Curves, seed: int) -> None:
        super().__init__(metric="score", mode="max")
        self._params = curves.params
        self._order = iter(np.random.default_rng(seed).permutation(len(curves)).tolist())
        self.last = -1

    def suggest(self, trial_id: str) -> dict[str, Any]:  # type: ignore[override]
        self.last = next(self._order)
        return dict(self._params[self.last])

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        return


class OptunaSearch:
    """Optuna as its users call it: ask, report each round, tell. `pruner` decides which trials are stopped."""

    def __init__(self, curves: Curves, pruner: BasePruner, seed: int, trials: int) -> None:
        self._sampler = NearestRecorded(TPESampler(seed=seed), Pool(curves))
        self._study = optuna.create_study(direction="maximize", sampler=self._sampler, pruner=pruner)
        self._space, self._rounds, self._most = curves.space, curves.rounds, trials
        self._trials: list[optuna.Trial] = []

    def next(self) -> tuple[int, int] | None:
        if len(self._trials) == self._most:
            return None
        trial = self._study.ask()
        self._space.suggest(trial)
        self._trials.append(trial)
        return len(self._trials) - 1, self._sampler.last

    def told(self, trial: int, round_: int, score: float, diverged: bool) -> bool:
        own = self._trials[trial]
        if diverged:
            self._study.tell(own, state=TrialState.FAIL)
            return False
        own.report(score, round_)
        if round_ == self._rounds:
            self._study.tell(own, score)
            return False
        if own.should_prune():
            self._study.tell(own, state=TrialState.PRUNED)
            return False
        return True


def default(
    curves: Curves,
    seed: int,
    trials: int,
    first: Sequence[TrialParams] = (),
    observations: Sequence[Observation] = (),
    all_trials: bool = False,
) -> TuneSearch:
    """The searcher and the scheduler of a sweep with its default settings, without default configurations in front.

    `first` and `observations` are those of an earlier sweep. With `all_trials` it does not end by itself.
    """
    sweep = Sweep("replay", (), curves.space, num_samples=trials, rounds=curves.rounds)
    settings = SearchSettings(
        curves.space, sweep.name, seed, sweep.rounds, sweep.search, first, observations=observations, num_samples=trials
    )
    records: dict[str, TrialRecord] = {}
    gain = FurtherGain(smallest_shown(2, FIRST_BUDGET, MOST_QUESTIONS), {"chance": curves.chance}, curves.rounds)

    def is_enough() -> bool:
        return not all_trials and gain.chance([*records.values()], trials) < UNLIKELY

    limits = Limits(trials, AT_ONCE, is_enough=is_enough)
    scheduler = PromotingASHA(sweep.rungs(), sweep.reduction_factor, lambda: records, limits)
    searcher = OptunaSearcher(settings, InMemoryStorage(), scheduler.may_start)
    sampler = NearestRecorded(searcher.study.sampler, Pool(curves))
    searcher.study.sampler = sampler
    return TuneSearch(searcher, scheduler, sampler.taken, sweep.rounds, trials, records, curves.asked)


def whole(curves: Curves, seed: int, trials: int) -> TuneSearch:
    """As `default`, but all trials start."""
    return default(curves, seed, trials, all_trials=True)


def ray_asha(curves: Curves, seed: int, trials: int) -> TuneSearch:
    """Ray's own ASHA, which stops trials, with random configurations."""
    searcher = RandomSearcher(curves, seed)
    scheduler = AsyncHyperBandScheduler(max_t=curves.rounds, grace_period=curves.grace, reduction_factor=3)
    return TuneSearch(searcher, scheduler, lambda config: searcher.last, curves.rounds, trials)


def optuna_median(curves: Curves, seed: int, trials: int) -> OptunaSearch:
    """Optuna's default sampler and its default pruner."""
    return OptunaSearch(curves, MedianPruner(), seed, trials)


def optuna_halving(curves: Curves, seed: int, trials: int) -> OptunaSearch:
    return OptunaSearch(curves, SuccessiveHalvingPruner(), seed, trials)


def optuna_hyperband(curves: Curves, seed: int, trials: int) -> OptunaSearch:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return OptunaSearch(curves, HyperbandPruner(max_resource=curves.rounds), seed, trials)
