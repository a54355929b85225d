"""`espalier propose` and `espalier ask`: queue a configuration of one's own, and see what the search would try next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import optuna
import tyro
from optuna.trial import TrialState

from search_spaces.axis import describe, inside
from search_spaces.names import without_prefix
from sweeps.commands.which_sweep import meant
from sweeps.persistence.study import opened, storage_of, taken
from sweeps.results import plain
from sweeps.results.leaderboard import shown
from sweeps.results.run_folder import DATABASE, Run
from sweeps.results.terminal import print, print_json
from sweeps.results.trial_params import TrialParams
from sweeps.spec.config_fields import cast, read_value
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import check_no_links, open_run
from sweeps.spec.sweep import Sweep
from sweeps.spec.trust import apply_trust
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings, enqueue
from trainables.bad_input import BadInput, reading


def propose(
    run: Path, values: tuple[str, ...] = (), /, learner: str | None = None, trust: tuple[str, ...] = ()
) -> None:
    """Queue a configuration: `espalier propose runs/arena learning_rate=1e-3 r=8`.

    The search tries it after what is queued already, such as the sweep's own first configurations. What it does not
    name is drawn by the search. It takes the place of a trial, and is scored as any other.

    Args:
        run: the sweep's folder
        values: AXIS=VALUE, one or more
        learner: which of the sweep's, as the leaderboard names it; none: the only one
        trust: files or modules with the learners and tasks that are not Espalier's
    """
    apply_trust(trust)
    left = open_run(run)
    check_no_links(left.folder)
    sweep = rebuild(left.facts, remote_code=True)  # loads no base
    params = _proposed(sweep, learner, values)
    study = _study(left, sweep)
    _check_room(left, sweep, study)
    before = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    enqueue(study, params, sweep.pair_names)
    when = f"tried after {before} queued before it" if before else "tried next"
    print(f"{left.folder}: {' '.join(filter(None, [params.pair, *values]))} is queued, and {when}")


def ask(
    run: Path | None = None,
    /,
    trust: tuple[str, ...] = (),
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Print a configuration that the search would try next, from all that it has seen so far. Nothing is queued.

    Args:
        run: the sweep's folder; none: the one that runs, or else the latest in runs/
        trust: files or modules with the learners and tasks that are not Espalier's
        as_json: print one line of JSON, as docs/reference/json.md describes it
    """
    apply_trust(trust)
    left = open_run(meant(run))
    sweep = rebuild(left.facts, remote_code=True)
    copy = optuna.storages.InMemoryStorage()
    with reading(left.folder / DATABASE):
        optuna.copy_study(from_study_name=sweep.name, from_storage=opened(storage_of(left.folder)), to_storage=copy)
    found: Any = OptunaSearcher(SearchSettings.of_sweep(sweep), copy).suggest("asked")
    params: TrialParams = found["params"]
    if as_json:
        fields = {name: plain.value(value) for name, value in params.fields.items()}
        print_json("ask", {"folder": str(left.folder), "learner": params.pair, "params": fields})
    else:
        print(" ".join([params.pair, *(f"{name}={shown(value)}" for name, value in params.fields.items())]).strip())


def _proposed(sweep: Sweep, learner: str | None, values: tuple[str, ...]) -> TrialParams:
    """Return the configuration that a command line names. Raises BadInput for what no trial of the sweep can be."""
    if not values:
        raise BadInput("say what to try, as in:", "espalier propose runs/arena learning_rate=1e-3")
    names = sweep.pair_names
    if learner is None and len(names) > 1:
        raise BadInput(f"{sweep.name} has the learners {', '.join(names)}; choose one with --learner")
    if learner is not None and learner not in names:
        raise BadInput(f"--learner {learner}: {sweep.name} has {', '.join(names)}")
    pair = sweep.resolve(TrialParams(learner or names[0], {}))
    space, fields = sweep.space_of(pair), dict[str, Any]()
    for text in values:
        label, equals, value = text.partition("=")
        name = without_prefix(pair.learner.name, without_prefix(pair.name, label))
        if not equals or name not in space.axes:
            raise BadInput(f"{text}: write AXIS=VALUE with an axis of the search: {', '.join(space.axes)}")
        fields[name] = cast(pair.learner, name, read_value(text, value))
        if not inside(space.axes[name], fields[name]):
            raise BadInput(f"{text}: {name} is outside {describe(space.axes[name])}; choose a value inside")
    params = TrialParams(learner or names[0], fields)
    sweep.resolve(params)  # raises BadInput where the learner refuses them
    return params


def _study(left: Run, sweep: Sweep) -> optuna.Study:
    with reading(left.folder / DATABASE):
        return optuna.load_study(study_name=sweep.name, storage=opened(storage_of(left.folder)))


def _check_room(left: Run, sweep: Sweep, study: optuna.Study) -> None:
    """Raise BadInput if no further trial will start: what is proposed must not come after the finalists."""
    ended = left.end and not left.end.get("interrupted")
    confirmed = left.confirmation.finals or (left.folder / "finalists").is_dir()
    if ended or (confirmed and not left.is_search_resumed):
        raise BadInput(
            f"the search of {left.folder}", "is over", "add trials with --resume --num-samples N, or start a new sweep"
        )
    if len(taken(study)) >= sweep.num_samples:
        raise BadInput(f"all {sweep.num_samples} trials of {left.folder}", "are taken, and this would be one more")
