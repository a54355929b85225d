"""Replayed sweeps: recordings are read, schedules cost what they cost, and picks are judged by the truth."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from benchmarks.curves import BadCurves, Curves, Seen, read, read_folder
from benchmarks.replay import (
    Confirmation,
    Event,
    Events,
    Stages,
    first_reach,
    in_stages,
    outcome,
    picks,
    play,
)
from benchmarks.rivals import NearestRecorded, Pool, RandomSearcher, TuneSearch, default, optuna_median
from benchmarks.search import TRIALS, main
from benchmarks.syne_rivals import asha_cqr, bohb, missing

CERTAIN = Confirmation(finalists=2, seeds=2, questions=5000)


def write(file: Path, losses: Sequence[Sequence[float]], **axes: Sequence[float]) -> Path:
    """Write a recording of losses; without axes, a rate that says each configuration's number."""
    axes = axes or {"rate": np.linspace(0, 1, len(losses))}
    frame = pd.DataFrame({**axes, "valid": [np.asarray(row, np.float32) for row in losses], "test_last": 0.5})
    frame.to_parquet(file)
    return file


def planted(folder: Path, scores: np.ndarray, name: str = "planted") -> Curves:
    """Return the recording of a task in which these are the true scores, (configurations, rounds)."""
    return read(write(folder / f"{name}.parquet", (1 - scores) * 2 * math.log(2)), 250, "rows")


def one_right(folder: Path, configurations: int = 64, rounds: int = 51) -> Curves:
    """Return a task in which one configuration always answers rightly, and the others never."""
    return planted(folder, np.repeat(np.eye(configurations)[0][:, None], rounds, axis=1))


class Listed:
    """Starts these configurations and stops none; notes what it is told."""

    def __init__(self, configurations: Sequence[int], rounds: int) -> None:
        self._left, self._rounds = list(enumerate(configurations)), rounds
        self.told_all: list[tuple[int, int, float, bool]] = []

    def next(self) -> tuple[int, int] | None:
        return self._left.pop(0) if self._left else None

    def told(self, trial: int, round_: int, score: float, diverged: bool) -> bool:
        self.told_all.append((trial, round_, score, diverged))
        return round_ < self._rounds and not diverged


def test_losses_become_scores_by_hand(tmp_path):
    """The loss of a coin is half, none is 1, much is 0; after a loss that is not finite there is nothing more."""
    losses = [[math.log(2), 0.0, 9.0], [0.1, math.nan, 0.1], [0.2, 0.2, math.log(2) / 2]]
    file = write(tmp_path / "taskset_a.parquet", losses, rate=[1e-4, 1e-2, 1e-1], beta=[0.9, 0.95, 0.99])
    found = read(file, 250, "rows")
    assert found.name == "a"
    assert found.expected[0] == pytest.approx([0.5, 1.0, 0.0])
    assert found.expected[1, 1:].tolist() == [0, 0]
    assert found.expected[2, 2] == pytest.approx(0.75)
    assert found.lasted.tolist() == [3, 2, 3]
    assert found.diverged.tolist() == [False, True, False]
    assert found.cost.tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 1]]
    assert found.space.axes == {
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "beta": FloatDistribution(0.9, 0.99),
    }
    assert found.places[1] == pytest.approx([2 / 3, 5 / 9])


def no_axis(file):
    write(file, [[0.1, 0.2]] * 3, rate=[0.5, 0.5, 0.5])


def texts(file):
    pd.DataFrame({"kind": ["a", "b"], "valid": [[0.1], [0.2]], "test_last": 0.1}).to_parquet(file)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: file.write_bytes(b"PAR1 no"), "is not a parquet file"),
        (lambda file: pd.DataFrame({"rate": [0.1]}).to_parquet(file), "has no column 'valid'"),
        (lambda file: write(file, [[0.1, 0.2], [0.1]]), "lists of 'valid' are not equally long, but ['1', '2']"),
        (lambda file: write(file, [[0.1], [0.2]], rate=[0.1, math.nan]), "axis 'rate' has values that are no numbers"),
        (texts, "axis 'kind' has values that are no numbers"),
        (no_axis, "no axis has two values"),
    ],
    ids=["broken", "no losses", "unequal", "nan", "text", "nothing to search"],
)
def test_what_is_no_recording_is_told_in_a_line(tmp_path, make, told):
    make(tmp_path / "a.parquet")
    with pytest.raises(BadCurves, match=re.escape(told)) as refused:
        read_folder(tmp_path, 250, "rows")
    assert "\n" not in str(refused.value)
    assert "a.parquet" in str(refused.value)


def test_a_folder_without_recordings_and_a_small_one_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--curves", str(tmp_path)])
    assert "has no recorded curves (*.parquet)" in capsys.readouterr().err
    one_right(tmp_path, configurations=TRIALS - 1, rounds=2)
    with pytest.raises(SystemExit):
        main(["--curves", str(tmp_path)])
    assert "planted has 63 configurations; random search of 64 needs as many" in capsys.readouterr().err


def test_schedules_cost_what_they_cost(tmp_path):
    """64 configurations to round 6, 21 to round 18, 7 to the end; the right one is never lost."""
    curves = one_right(tmp_path)
    unit = 64 * curves.full_cost
    events = in_stages(curves, Stages((64, 21, 7), (6, 18, 51)), 20, np.random.default_rng(0))
    assert events.spent[:, -1] / unit == pytest.approx((64 * 6 + 21 * 12 + 7 * 33) / (64 * 51))
    found = outcome(events, unit, CERTAIN, np.random.default_rng(0))
    assert found.last == found.last_confirmed == 1
    assert found.spent == pytest.approx(0.2656, abs=1e-4)
    top = in_stages(curves, Stages((64, 4), (3, 51)), 20, np.random.default_rng(0))
    assert top.spent[:, -1] / unit == pytest.approx((64 * 3 + 4 * 48) / (64 * 51))


def test_random_search_picks_the_right_one_as_often_as_it_draws_it(tmp_path):
    curves = one_right(tmp_path)
    for trials in (8, 64):
        events = in_stages(curves, Stages((trials,), (51,)), 4000, np.random.default_rng(1))
        found = outcome(events, 64 * curves.full_cost, CERTAIN, np.random.default_rng(0))
        assert found.last == pytest.approx(trials / 64, abs=0.02)
        assert found.spent == pytest.approx(trials / 64)
        assert found.searched[200] == pytest.approx(min(trials, 32) / 64, abs=0.03), "half of the cost"


def test_noise_makes_the_pick_of_many_worse_than_the_best(tmp_path):
    """Of 64 configurations near one half, 250 questions pick one 2 points above the mean, and averages a better one."""
    truth = 0.5 + 0.02 * np.random.default_rng(0).standard_normal((64, 1)) + np.zeros((1, 9))
    curves = planted(tmp_path, truth)
    last, mean = (
        outcome(
            in_stages(curves, Stages((64,), (9,), mean), 2000, np.random.default_rng(1)), 1, CERTAIN,
            np.random.default_rng(0),
        ).last
        for mean in (1, 3)
    )  # fmt: skip
    assert truth.mean() + 0.01 < last < mean < truth.max()


def events_of(*rows: tuple[float, int, float, float]) -> Events:
    return Events.of([[Event(*row) for row in rows]])


def test_picks_by_hand():
    """The first of equals; a trial whose score falls is left; one that diverged is nothing."""
    rows = [(1, 0, 0.5, 0.45), (2, 1, 0.5, 0.6), (3, 1, 0.7, 0.65), (4, 1, 0.4, 0.3), (5, 0, -np.inf, 0.9)]
    found = picks(events_of(*rows), CERTAIN, np.random.default_rng(0))
    assert found.searched[0].tolist() == [0.45, 0.45, 0.65, 0.45, 0.3]
    assert found.confirmed[0].tolist() == [0.45, 0.6, 0.65, 0.45, 0.3], "the better of two, which seen scores missed"


def test_the_first_reach_by_hand():
    events = events_of((10, 0, 0.5, 0.45), (20, 1, 0.6, 0.6), (30, 2, 0.7, 0.4))
    found = outcome(events, 100, CERTAIN, np.random.default_rng(0))
    assert first_reach(found.searched, 0.45) == pytest.approx(0.1)
    assert first_reach(found.searched, 0.5) == pytest.approx(0.2)
    assert first_reach(found.searched, 0.61) is None, "a search that ends below never reaches it, however cheap it was"


def test_rounds_end_in_the_order_of_their_costs(tmp_path):
    """Two at once: rounds of trial 0 last 3, of trial 1 1, of trial 2, which starts when trial 1 has ended at 2, 2."""
    curves = planted(tmp_path, np.full((3, 2), 0.5))
    curves.cost[:] = [[3, 3], [1, 1], [2, 2]]
    search = Listed([0, 1, 2], rounds=2)
    events = play(curves, Seen(curves, 0), search, at_once=2)
    assert [one[:2] for one in search.told_all] == [(1, 1), (1, 2), (0, 1), (2, 1), (0, 2), (2, 2)]
    assert [one.spent for one in events] == [1, 2, 5, 7, 10, 12]


def test_a_trial_that_diverges_ends_and_is_never_picked(tmp_path):
    curves = read(write(tmp_path / "a.parquet", [[0.1, math.inf, 0.1], [0.6, 0.6, 0.6]]), 250, "rows")
    search = Listed([0, 1], rounds=3)
    events = play(curves, Seen(curves, 0), search, at_once=1)
    assert search.told_all[1] == (0, 2, 0.0, True)
    found = picks(Events.of([events]), CERTAIN, np.random.default_rng(0)).searched[0]
    assert found[0] == pytest.approx(curves.true[0, 0])
    assert found[1] == 0, "it was the only one"
    assert found[-1] == pytest.approx(curves.true[1, 0])


def test_a_search_that_peeks_is_found_out(tmp_path):
    """One that knows the truth needs a single training, less than any that sees scores; and no search is told it."""
    truth = np.random.default_rng(0).uniform(0.2, 0.8, (64, 1)) + np.zeros((1, 16))
    curves = planted(tmp_path, truth)
    unit, rng = 64 * curves.full_cost, np.random.default_rng(0)
    random = outcome(in_stages(curves, Stages((64,), (16,)), 500, rng), unit, CERTAIN, rng)
    costs = {}
    for name, make in {"peek": None, "default": default, "Optuna": optuna_median}.items():
        sweeps = []
        for repetition in range(8):
            search = make(curves, repetition, 32) if make else Listed([int(truth[:, 0].argmax())], rounds=16)
            sweeps.append(play(curves, Seen(curves, repetition), search))
        costs[name] = first_reach(outcome(Events.of(sweeps), unit, CERTAIN, rng).searched, random.last)
    assert costs.pop("peek") <= 1 / 64
    assert all(cost is None or cost > 4 / 64 for cost in costs.values())
    search = Listed([3], rounds=16)
    play(curves, Seen(curves, 5), search)
    told = np.array([score for *_, score, _ in search.told_all])
    assert told.tolist() == Seen(curves, 5).scores(3).tolist(), "what it sees is paired between methods"
    assert 0.01 < told.std() < 0.06, "answers to 250 questions"
    assert told.tolist() != Seen(curves, 6).scores(3).tolist()


class Fixed(BaseSampler):
    """Always suggests the same value."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return 0.12


def test_a_suggestion_becomes_the_nearest_unused_configuration(tmp_path):
    curves = read(write(tmp_path / "a.parquet", [[0.1, 0.2]] * 4, rate=[0.9, 0.1, 0.2, 0.0]), 250, "rows")
    sampler = NearestRecorded(Fixed(), Pool(curves))
    study = optuna.create_study(sampler=sampler)
    told = []
    for _ in range(4):
        curves.space.suggest(study.ask())
        told.append(sampler.last)
    assert told == [1, 2, 3, 0]
    assert [trial.params["rate"] for trial in study.get_trials()] == [0.1, 0.2, 0.0, 0.9], "the study knows these"


def test_the_default_is_the_searcher_of_sweeps_and_its_study_is_whole(tmp_path):
    truth = np.random.default_rng(0).uniform(0.2, 0.8, (80, 1)) + np.zeros((1, 16))
    curves = planted(tmp_path, truth)
    search = default(curves, 3, 40, all_trials=True)
    play(curves, Seen(curves, 0), search)
    trials = search._searcher.study.get_trials()
    rates = [trial.params["rate"] for trial in trials]
    assert len(set(rates)) == 40
    assert set(rates) <= {one["rate"] for one in curves.params}
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(pruned) + len(finished) == 40
    assert {trial.last_step for trial in pruned} <= {2, 6}, "rungs of 16 rounds with a grace of 2"
    assert {trial.last_step for trial in finished} == {16}
    assert len(finished) < 20
    again = default(curves, 3, 40, all_trials=True)
    play(curves, Seen(curves, 0), again)
    assert [trial.params for trial in again._searcher.study.get_trials()] == [trial.params for trial in trials]
    better = np.mean([trial.params["rate"] for trial in trials[:10]])
    assert better != np.mean([trial.params["rate"] for trial in trials[-10:]])


class PausesAll(FIFOScheduler):
    """Pauses each trial after its first round, and goes on with the best once all have had one."""

    def __init__(self, trials: int) -> None:
        super().__init__()
        self._trials, self._scores = trials, dict[str, float]()

    def on_trial_result(self, tune_controller, trial, result):
        if trial.trial_id in self._scores:
            return TrialScheduler.CONTINUE
        self._scores[trial.trial_id] = result["score"]
        return TrialScheduler.PAUSE

    def choose_trial_to_run(self, tune_controller):
        trials = tune_controller.get_trials()
        if pending := [trial for trial in trials if trial.status == Trial.PENDING]:
            return pending[0]
        paused = [trial for trial in trials if trial.status == Trial.PAUSED]
        if len(self._scores) < self._trials or len(paused) < self._trials:
            return None
        return max(paused, key=lambda trial: self._scores[trial.trial_id])


def test_a_paused_trial_goes_on_where_it_was(tmp_path):
    curves = planted(tmp_path, np.array([[0.0] * 3, [1.0] * 3, [0.0] * 3]))
    searcher = RandomSearcher(curves, 0)
    search = TuneSearch(searcher, PausesAll(3), lambda config: searcher.last, rounds=3, num_samples=3)
    events = play(curves, Seen(curves, 0), search, at_once=2)
    assert events[-1].spent == 3 + 2, "no round is trained twice"
    assert [one.trial for one in events[3:]] == [events[-1].trial] * 2
    assert events[-1].true == 1


def test_the_command_ends_with_the_cost_of_the_default(tmp_path, capsys):
    rng = np.random.default_rng(0)
    planted(tmp_path, np.clip(rng.normal(0.4, 0.15, (70, 1)) + np.zeros((1, 9)), 0, 1), "wide")
    planted(tmp_path, np.full((70, 9), 0.7), "flat")
    few = ["--curves", str(tmp_path), "--only", "default", "--random-repetitions", "300", "--repetitions"]
    main([*few, "3", "--plot", str(tmp_path / "costs.png")])
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"cost against random 64: (> 1|0\.\d\d), with confirmation: (> 1|0\.\d\d)", lines[-1])
    assert any(line.startswith("| 1 | flat | 70.0 | 70.0 | 70.0 | no |") for line in lines)
    assert any(line.startswith("| 2 | wide |") and line.endswith("| yes |") for line in lines)
    (tmp_path / "wide.parquet").unlink()
    main([*few, "1"])
    assert "no task counts" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.skipif(bool(missing()), reason="Syne Tune is not installed")
@pytest.mark.parametrize("make", [bohb, asha_cqr])
def test_syne_tune_is_told_recorded_configurations(tmp_path, make):
    truth = np.random.default_rng(0).uniform(0.2, 0.8, (40, 1)) + np.zeros((1, 9))
    curves = planted(tmp_path, truth)
    search = make(curves, 0, 12)
    play(curves, Seen(curves, 0), search)
    known = search._scheduler.searcher.trial_configs
    assert len({one["rate"] for one in known.values()}) == 12
    assert all(one in [dict(params) for params in curves.params] for one in known.values())
    assert {len(told) for told in search._scheduler.searcher.trial_results.values()} >= {1, 9}, "some are stopped"


def test_an_unknown_method_is_refused_with_the_known_ones(tmp_path, capsys):
    one_right(tmp_path, rounds=2)
    with pytest.raises(SystemExit):
        main(["--curves", str(tmp_path), "--only", "magic"])
    assert "'magic' is no method; methods are random 64, random 8" in capsys.readouterr().err
