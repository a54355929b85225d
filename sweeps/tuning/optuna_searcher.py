"""The searcher: Tune asks it for parameters, and it tells Optuna how each trial really ended.

It alone encodes a `TrialParams`: for Optuna as axes (`TrialParams.flat`) and a clone's start as the user attribute
`start_from`; for Tune as the entry `params` of a trial's config, which holds the value itself.

Ray's own `OptunaSearch` calls stopped trials COMPLETE, leaves NaN trials RUNNING and fails on resume. Here the study
in the database is the only state. The user attribute `tune_trial_id` identifies a trial, so a resumed sweep goes on
under the same Optuna numbers; `rounds` holds its rounds. Ended trials also have `ended`: finished, pruned, diverged or
failed; lost, if the driver died; or refused by the learner. Another trial replaces those two (`study.taken`).

Tune calls (read in `tune_controller.py` of 2.60): `suggest` once per trial; `on_trial_result` for each result that
does not stop its trial; `on_trial_complete` with the last result where ASHA or the last round stopped it, without
one where it errored. A time budget or Ctrl-C calls nothing: see `settle`.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.result import TRAINING_ITERATION
from ray.tune.search import Searcher

from search_spaces.space import Space
from sweeps.persistence.study import DIVERGED_ROUND, ENDED, ROUNDS, TUNE_ID, StudyStorage, opened, taken, together
from sweeps.results.pareto import OBJECTIVES, values
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import LEARNER, START, Observation, TrialParams
from sweeps.spec.portfolio import portfolio
from sweeps.spec.sweep import Sweep
from sweeps.tracking.events import round_of
from sweeps.tuning.earlier_trials import EarlierTrials
from sweeps.tuning.sampler import SamplerName, sampler_of
from trainables.bad_input import BadInput


@dataclass(frozen=True)
class SearchSettings:
    """A search: its space, seed and sampler.

    `rounds` is the length of a finished trial. `first` holds parameters (all fields, or some) that are suggested first
    in a new study; `defaults`, values of axes around which the sampler draws at first; `observations`, trials of an
    earlier sweep that it sees. `pairs` are the names of those
    of the space; with `shared` they get equally many of `num_samples` trials. `seats`: how many trials of each base run
    at the same time, where bases are shared. `accept` raises BadInput for parameters that the learner refuses; others
    are drawn instead. The first of `objectives` is a score in [0, 1].
    """

    space: Space
    name: str  # of the study
    seed: int
    rounds: int
    sampler: SamplerName = "tpe"
    first: Sequence[TrialParams] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    observations: Sequence[Observation] = ()
    objectives: Sequence[str] = ("score",)
    pairs: Sequence[str] = ("",)
    shared: bool = False
    num_samples: int = 0
    seats: int | None = None
    accept: Callable[[TrialParams], Any] = repr  # which refuses none

    @classmethod
    def of_sweep(cls, sweep: Sweep) -> SearchSettings:
        """Return the settings of a sweep."""
        defaults = sweep.defaults()
        flat = [one.flat(sweep.pair_names) for one in defaults]
        return cls(
            sweep.joined_space(),
            sweep.name,
            sweep.seed,
            sweep.rounds,
            sweep.search,
            (*sweep.first, *defaults, *portfolio(sweep)),
            {name: value for own in flat for name, value in own.items() if name != LEARNER},
            sweep.observations,
            sweep.objectives,
            sweep.pair_names,
            len(sweep.pairs) > 1,
            sweep.num_samples,
            accept=sweep.resolve,
        )


def enqueue(study: optuna.Study, params: TrialParams, pairs: Sequence[str], **options: Any) -> None:
    """Queue a configuration of a sweep of these pairs. `options` are those of `Study.enqueue_trial`."""
    axes = params.flat(pairs)
    start = {START: axes.pop(START)} if START in axes else None
    study.enqueue_trial(axes, start, **options)


@dataclass
class _Live:
    """A trial that is RUNNING in Optuna, and the rounds whose scores Optuna has."""

    trial: Trial
    history: TrialHistory = field(default_factory=TrialHistory)
    reported: set[int] = field(default_factory=set)


class OptunaSearcher(Searcher):
    """Optuna's ask and tell behind Tune's `Searcher`.

    `storage` is an SQLAlchemy address such as `sqlite:////runs/arc/optuna.db`, or one of Optuna's storages. `may_start`
    returns whether another trial may start, None for "not yet". No callback raises for an unknown or finished trial.
    """

    def __init__(
        self, settings: SearchSettings, storage: str | BaseStorage, may_start: Callable[[], bool | None] | None = None
    ) -> None:
        super().__init__(metric=settings.objectives[0], mode="max")
        self._settings, self._storage, self._may_start = settings, storage, may_start
        self._study: optuna.Study | None = None
        self._opened: BaseStorage | None = None  # with it
        self._live: dict[str, _Live] = {}

    @property
    def study(self) -> optuna.Study:
        """The study, opened or created on first use, with the trials that are RUNNING in the database."""
        if self._study is None:
            self._study = self._open()
        return self._study

    @property
    def is_trial_waiting(self) -> bool:
        """Whether a trial is queued: it is suggested next."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # as Tune's own
        """Return the config of a new trial, or again that of a trial that is still running: `params`, a `TrialParams`.

        Return None while `may_start` returns None, and `Searcher.FINISHED` once it returns False.
        """
        _ = self.study  # opens it after a restart
        if trial_id not in self._live:
            if self._may_start and not (now := self._may_start()):
                return None if now is None else Searcher.FINISHED
            with together(self._opened):
                trial, params = self._drawn()
                trial.set_user_attr(TUNE_ID, trial_id)
            self._live[trial_id] = _Live(trial)
            return {"params": params}
        return {"params": self._suggested(self._live[trial_id].trial)}

    def _suggested(self, trial: Trial) -> TrialParams:
        return self._decoded(self._settings.space.suggest(trial), trial)

    def _decoded(self, axes: Mapping[str, Any], trial: Trial | FrozenTrial) -> TrialParams:
        start = trial.user_attrs.get(START)
        return replace(TrialParams.from_flat(axes, self._settings.pairs[0]), start=start)

    def _drawn(self) -> tuple[Trial, TrialParams]:
        """Draw until the learner accepts. Refused draws violate a constraint of the study, so that the sampler avoids
        the region: from a failure it would learn nothing, and might never leave."""
        while True:
            self._share_out()
            trial = self.study.ask()
            try:
                params = self._suggested(trial)
                self._settings.accept(params)
                return trial, params
            except BadInput:
                self._tell_violated("", _Live(trial), "refused")

    def _share_out(self) -> None:
        """Queue the pair with the fewest trials. Otherwise the sampler soon tries only what looked best, and a handful
        of early trials decides the comparison of the learners and bases."""
        trials, pairs = taken(self.study), self._settings.pairs
        if not self._settings.shared or any(trial.state == TrialState.WAITING for trial in trials):
            return
        tried = Counter(trial.params.get(LEARNER) for trial in trials)
        running = Counter(_base_of(trial) for trial in trials if trial.state == TrialState.RUNNING)
        share, seats = -(-self._settings.num_samples // len(pairs)), self._settings.seats

        def turn(pair: str) -> tuple[bool, bool, int]:
            waits = seats is not None and running[TrialParams(pair, {}).base] >= seats  # while another base has room
            return tried[pair] >= share, waits, tried[pair]

        enqueue(self.study, TrialParams(min(pairs, key=turn), {}), pairs)

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        live = self._find(trial_id)
        if live is not None:
            with together(self._opened):
                self._report(live, result)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        live = self._find(trial_id)
        if live is not None:
            with together(self._opened):
                self._end(trial_id, live, result, error)

    def _end(self, trial_id: str, live: _Live, result: dict | None, error: bool) -> None:
        if result is not None:
            self._report(live, result)
        history = live.history
        if history.diverged:
            live.trial.set_user_attr(DIVERGED_ROUND, history.diverged_in)
            self._tell_violated(trial_id, live, "diverged")
        elif error or history.best is None:
            self._tell(trial_id, live, "failed", TrialState.FAIL)
        elif history.rounds < self._settings.rounds:
            self._tell(trial_id, live, "pruned", TrialState.PRUNED)
        else:
            self._tell(trial_id, live, "finished", TrialState.COMPLETE, values(history, self._settings.objectives))

    def settle(self, alive: Iterable[str] = ()) -> None:
        """Tell Optuna FAIL for running trials that Tune has lost: all but `alive`, by Tune's ids.

        Their parameters are queued once more.
        """
        known = set(alive)
        for frozen in self.study.get_trials(states=(TrialState.RUNNING,)):
            trial_id = frozen.user_attrs.get(TUNE_ID, "")
            if trial_id in known:
                continue
            live = self._live.get(trial_id) or _Live(Trial(self.study, frozen._trial_id))
            self._tell(trial_id, live, "lost", TrialState.FAIL)
            if frozen.params:
                enqueue(self.study, self._decoded(frozen.params, frozen), self._settings.pairs)

    def save(self, checkpoint_path: str) -> None:
        """Save the ids of the trials in Tune's snapshot; all else is in the database, which is never behind it."""
        if isinstance(self._opened, StudyStorage):
            self._opened.secure()
        Path(checkpoint_path).write_text(json.dumps({"study_name": self._settings.name, "running": sorted(self._live)}))

    def restore(self, checkpoint_path: str) -> None:
        """Go on with the study: trials of the snapshot keep their numbers; later ones are lost and queued again."""
        snapshot = json.loads(Path(checkpoint_path).read_text())
        self._study = None
        self.settle(alive=snapshot["running"])

    def close(self) -> None:
        """Leave the study as one file."""
        if isinstance(self._opened, StudyStorage):
            self._opened.close()

    def __getstate__(self) -> dict[str, Any]:
        # Neither an open database nor the driver's count of costs can be pickled; the database is opened again.
        return self.__dict__ | {"_study": None, "_opened": None, "_live": {}, "_may_start": None}

    def _open(self) -> optuna.Study:
        self._opened = opened(self._storage)
        study = optuna.create_study(
            storage=self._opened,
            study_name=self._settings.name,
            directions=[OBJECTIVES[name][0] for name in self._settings.objectives],
            load_if_exists=True,
            sampler=RandomSampler(),
        )
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            study.set_metric_names(list(self._settings.objectives))  # which Optuna's dashboard shows
        trials = study.get_trials(deepcopy=False)
        # The random generator's state is not stored. With the number of trials in its seed, a resumed search draws new
        # numbers, and resuming twice from the same state draws the same ones.
        seed = self._settings.seed + len(trials)
        own = self._settings
        earlier = (
            EarlierTrials(own.observations, own.space.axes, own.pairs)
            if own.observations and len(own.objectives) == 1
            else None
        )
        study.sampler = sampler_of(own.sampler, seed, own.defaults, earlier)
        if not trials:
            for params in self._settings.first:
                enqueue(study, params, self._settings.pairs, skip_if_exists=True)
        self._live = {t.user_attrs[TUNE_ID]: _revived(study, t) for t in trials if _is_running(t)}
        return study

    def _find(self, trial_id: str) -> _Live | None:
        _ = self.study  # opens it after a restart
        return self._live.get(trial_id)

    def _report(self, live: _Live, result: Mapping[str, Any]) -> None:
        """Keep a round in the database for the next driver, and report its score to Optuna as an intermediate value.

        If a restored trial repeats a round, Optuna keeps the first value. With several objectives it accepts none.
        """
        if TRAINING_ITERATION not in result:
            return
        row = round_of(result)
        kept = ["round", "diverged", *(OBJECTIVES[name][1] for name in self._settings.objectives)]
        live.history = live.history.with_round({key: row[key] for key in kept if key in row})
        live.trial.set_user_attr(ROUNDS, list(live.history))
        step, reports = row["round"], len(self._settings.objectives) == 1 and "score" in row and not row["diverged"]
        if reports and step not in live.reported:
            live.reported.add(step)
            live.trial.report(row["score"], step)

    def _tell_violated(self, trial_id: str, live: _Live, ended: str) -> None:
        """End a trial that has no score of its own: it violates a constraint, and has the worst values."""
        live.trial.set_constraint(ended, 1.0)
        self._tell(trial_id, live, ended, TrialState.COMPLETE, values(TrialHistory(), self._settings.objectives))

    def _tell(
        self, trial_id: str, live: _Live, ended: str, state: TrialState, values: list[float] | None = None
    ) -> None:
        live.trial.set_user_attr(ENDED, ended)  # first: a finished trial takes no more attributes
        self.study.tell(live.trial, values, state=state)
        self._live.pop(trial_id, None)


def _base_of(frozen: FrozenTrial) -> str:
    return TrialParams(frozen.params.get(LEARNER, ""), {}).base


def _is_running(frozen: FrozenTrial) -> bool:
    return frozen.state == TrialState.RUNNING and TUNE_ID in frozen.user_attrs


def _revived(study: optuna.Study, frozen: FrozenTrial) -> _Live:
    """Reopen a running trial of an earlier driver. Optuna has no public way from a frozen trial to a live one."""
    live = Trial(study, frozen._trial_id)
    rows = tuple(frozen.user_attrs.get(ROUNDS, ()))
    return _Live(live, TrialHistory(rows), set(frozen.intermediate_values))
