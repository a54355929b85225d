"""The searcher: Tune asks it for configurations, and it tells Optuna the truth about how each trial ended.

Ray's own `OptunaSearch` says COMPLETE of stopped trials, leaves NaN trials RUNNING for ever and fails on resume. Here
the study in the database is the only state: trials are found again by the user attribute `tune_trial_id`, so a
resumed sweep goes on under the same Optuna numbers and rounds
(`rounds`). Ended ones also carry `ended`: finished, pruned, diverged, failed;
or lost (with a driver) and refused (by the learner), which leave their place to another: see `study.taken`.

What Tune calls (read in `tune_controller.py` of 2.60): `suggest` once per trial; `on_trial_result` for each result that
does not stop its trial; `on_trial_complete` with the last result where ASHA or the last round stopped it, without
one where it errored. A time budget or Ctrl-C calls nothing: see `settle`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.result import TRAINING_ITERATION
from ray.tune.search import Searcher

from search_spaces.space import Space
from sweeps.results.pareto import OBJECTIVES, values
from sweeps.results.trial_history import TrialHistory
from sweeps.spec.validation import BadInput
from sweeps.tracking.events import round_of
from sweeps.tuning.sampler import SamplerName, sampler_of
from sweeps.tuning.study import DIVERGED_ROUND, ENDED, ROUNDS, TUNE_ID, opened, taken
from trainables.core import START


@dataclass
class _Live:
    """A trial that Optuna has as RUNNING, and the rounds whose scores it was told."""

    trial: Trial
    history: TrialHistory = field(default_factory=TrialHistory)
    told: set[int] = field(default_factory=set)


class OptunaSearcher(Searcher):
    """Optuna's ask and tell behind Tune's `Searcher`; the first of `objectives` is a score in [0, 1].

    `storage` is an SQLAlchemy address such as `sqlite:////runs/arc/optuna.db`; `rounds` is where a trial is finished.
    `enqueue` holds parameters (all, or some of them) that are suggested first in a new study; `shared` names a
    categorical axis whose choices get equally many trials; `accept` raises BadInput for parameters that its learner
    refuses, in whose place others are drawn. No callback raises for an unknown or finished trial.
    """

    def __init__(
        self,
        space: Space,
        *,
        storage: str,
        study_name: str,
        seed: int,
        rounds: int,
        sampler: SamplerName = "tpe",
        enqueue: Sequence[Mapping[str, Any]] = (),
        objectives: Sequence[str] = ("score",),
        shared: str | None = None,
        accept: Callable[[Mapping[str, Any]], Any] = dict,
        may_start: Callable[[], bool | None] | None = None,
    ) -> None:
        super().__init__(metric=objectives[0], mode="max")
        self._objectives = tuple(objectives)
        self._space, self._storage, self._name = space, storage, study_name
        self._seed, self._rounds, self._sampler, self._shared = seed, rounds, sampler, shared
        self._enqueue = [dict(params) for params in enqueue]
        self._accept, self._may_start = accept, may_start
        self._study: optuna.Study | None = None
        self._live: dict[str, _Live] = {}

    @property
    def study(self) -> optuna.Study:
        """The study, opened or created on first use, with what the database says is still running."""
        if self._study is None:
            self._study = self._open()
        return self._study

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # as Tune's own
        """The parameters of a new trial; the same again for a trial that is still running. A clone's have `START`.

        None while `may_start` says None, for not yet; `Searcher.FINISHED` once it says False.
        """
        _ = self.study  # opens it after a restart
        if trial_id not in self._live:
            if self._may_start and not (now := self._may_start()):
                return None if now is None else Searcher.FINISHED
            self._live[trial_id] = _Live(self._drawn())
            self._live[trial_id].trial.set_user_attr(TUNE_ID, trial_id)
        trial = self._live[trial_id].trial
        return self._space.suggest(trial) | _begun(trial)

    def _drawn(self) -> Trial:
        """The next that its learner accepts. The study is told the worst of the others, so that the sampler avoids the
        region: of a failure it would learn nothing, and might never leave."""
        while True:
            self._share_out()
            trial = self.study.ask()
            try:
                self._accept(self._space.suggest(trial))
                return trial
            except BadInput:
                self._tell("", _Live(trial), "refused", TrialState.COMPLETE, self._worst())

    def _share_out(self) -> None:
        """Left to itself, the sampler soon tries only what looked best, and a comparison of the choices of `shared`
        is decided by a handful of early trials."""
        trials = taken(self.study)
        if self._shared is None or any(trial.state == TrialState.WAITING for trial in trials):
            return
        axis, tried = self._space.axes[self._shared], Counter(trial.params.get(self._shared) for trial in trials)
        assert isinstance(axis, CategoricalDistribution)
        self.study.enqueue_trial({self._shared: min(axis.choices, key=lambda choice: tried[choice])})

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        live = self._find(trial_id)
        if live is not None:
            self._report(live, result)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        live = self._find(trial_id)
        if live is None:
            return
        if result is not None:
            self._report(live, result)
        history = live.history
        if history.diverged:
            live.trial.set_user_attr(DIVERGED_ROUND, history.diverged_in)
            self._tell(trial_id, live, "diverged", TrialState.COMPLETE, self._worst())
        elif error or history.best is None:
            self._tell(trial_id, live, "failed", TrialState.FAIL)
        elif history.rounds < self._rounds:
            self._tell(trial_id, live, "pruned", TrialState.PRUNED)
        else:
            self._tell(trial_id, live, "finished", TrialState.COMPLETE, values(history, self._objectives))

    def settle(self, alive: Iterable[str] = ()) -> None:
        """Tell FAIL for running trials that nobody will go on with: all but `alive`, by Tune's ids.

        Their parameters are suggested once more.
        """
        known = set(alive)
        for frozen in self.study.get_trials(states=(TrialState.RUNNING,)):
            trial_id = frozen.user_attrs.get(TUNE_ID, "")
            if trial_id in known:
                continue
            live = self._live.get(trial_id) or _Live(Trial(self.study, frozen._trial_id))
            self._tell(trial_id, live, "lost", TrialState.FAIL)
            if frozen.params:
                self.study.enqueue_trial(frozen.params, user_attrs=_begun(frozen))

    def save(self, checkpoint_path: str) -> None:
        """Which trials Tune's snapshot knows; all else is in the database."""
        Path(checkpoint_path).write_text(json.dumps({"study_name": self._name, "running": sorted(self._live)}))

    def restore(self, checkpoint_path: str) -> None:
        """Go on with the study: trials of the snapshot under their own numbers, later ones as lost and tried again."""
        snapshot = json.loads(Path(checkpoint_path).read_text())
        self._study = None
        self.settle(alive=snapshot["running"])

    def __getstate__(self) -> dict[str, Any]:
        # An open database does not travel, and is opened again; nor does what a driver knows of its costs.
        return self.__dict__ | {"_study": None, "_live": {}, "_may_start": None}

    def _open(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line per trial would break the progress block
        study = optuna.create_study(
            storage=opened(self._storage),
            study_name=self._name,
            directions=[OBJECTIVES[name][0] for name in self._objectives],
            load_if_exists=True,
            sampler=RandomSampler(),
        )
        trials = study.get_trials(deepcopy=False)
        # A generator's state is not stored; the count makes a resumed one new, and a repeated resume the same.
        study.sampler = sampler_of(self._sampler, self._seed + len(trials))
        if not trials:
            for params in self._enqueue:
                study.enqueue_trial(params, skip_if_exists=True)
        self._live = {t.user_attrs[TUNE_ID]: _revived(study, t) for t in trials if _is_running(t)}
        return study

    def _find(self, trial_id: str) -> _Live | None:
        _ = self.study  # opens it after a restart
        return self._live.get(trial_id)

    def _report(self, live: _Live, result: Mapping[str, Any]) -> None:
        """A round, kept in the database for the next driver. Its score is an intermediate value, of which Optuna takes
        the first where a restored trial repeats rounds, and none where there are several objectives."""
        if TRAINING_ITERATION not in result:
            return
        row = round_of(result)
        kept = ["round", "diverged", *(OBJECTIVES[name][1] for name in self._objectives)]
        live.history = live.history.with_round({key: row[key] for key in kept if key in row})
        live.trial.set_user_attr(ROUNDS, list(live.history))
        step, reports = row["round"], len(self._objectives) == 1 and "score" in row and not row["diverged"]
        if reports and step not in live.told:
            live.told.add(step)
            live.trial.report(row["score"], step)

    def _worst(self) -> list[float]:
        return values(TrialHistory(), self._objectives)

    def _tell(
        self, trial_id: str, live: _Live, ended: str, state: TrialState, values: list[float] | None = None
    ) -> None:
        live.trial.set_user_attr(ENDED, ended)  # first: a finished trial takes no more attributes
        self.study.tell(live.trial, values, state=state)
        self._live.pop(trial_id, None)


def _begun(trial: Trial | FrozenTrial) -> dict[str, Any]:
    """What a clone starts from; nothing of any other trial."""
    return {name: value for name, value in trial.user_attrs.items() if name == START}


def _is_running(frozen: FrozenTrial) -> bool:
    return frozen.state == TrialState.RUNNING and TUNE_ID in frozen.user_attrs


def _revived(study: optuna.Study, frozen: FrozenTrial) -> _Live:
    """A running trial of an earlier driver. Optuna offers no public way from a frozen trial to a live one."""
    live = Trial(study, frozen._trial_id)
    rows = tuple(frozen.user_attrs.get(ROUNDS, ()))
    return _Live(live, TrialHistory(rows), set(frozen.intermediate_values))
