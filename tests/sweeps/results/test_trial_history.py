"""The round of a trial that counts, by hand; every file that says "best" means that round."""

from __future__ import annotations

import dataclasses
import io
from types import SimpleNamespace

import optuna
import pytest
import yaml

from sweeps.persistence.study import storage_of
from sweeps.results.finals import candidates
from sweeps.results.pareto import front, in_words
from sweeps.results.run_folder import Run
from sweeps.spec.open_run import job_of
from sweeps.spec.warm_start import like
from sweeps.tracking.event_queue import read_events
from sweeps.tracking.mlflow_callback import MLflowTracking, TrackedSweep
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from sweeps.tuning.progress import Progress
from sweeps.tuning.recorder import Recorder
from tests.support.knobs import ONE

# Score, loss and what is kept elsewhere, by round. The second of trial 0's four rounds is the best, and a later one as
# good; its loss goes on falling, and it forgets less and less. Trial 1 is steady, and beats trial 0's last round in
# everything. Trial 2 was the best of all before it diverged.
PLANTED = {
    "t0": [(0.3, 4.0, 0.1), (0.75, 3.0, 0.2), (0.75, 2.0, 0.3), (0.5, 1.0, 0.4)],
    "t1": [(0.6, 0.5, 0.5)] * 4,
    "t2": [(0.9, 0.1, 0.9), (0.0, float("nan"), 0.9)],
}
OBJECTIVES = ("score", "loss", "out_of_domain", "seconds")
FULL = dataclasses.replace(ONE, rounds=4, objectives=OBJECTIVES)


def result_of(trial_id, number):
    score, loss, kept = PLANTED[trial_id][number - 1]
    over = number == len(PLANTED[trial_id])
    items = [1.0] * round(20 * score) + [0.0] * (20 - round(20 * score))
    fixed = {"training_iteration": number, "score": score, "loss": loss, "forgetting_score": kept, "items": items}
    return fixed | {"time_total_s": 10.0 * number, "seconds": 9.0, "done": over, "diverged": loss != loss}


class Driver:
    """The four that hear of every round, told as Tune tells them."""

    def __init__(self, folder, objectives):
        self.folder, self.objectives = folder, objectives
        self.open()

    def open(self):
        """A driver does this, and the next one with --resume."""
        self.stream = io.StringIO()
        self.recorder = Recorder(self.folder, dataclasses.replace(FULL, objectives=self.objectives), {})
        self.tracking = MLflowTracking(
            TrackedSweep("one", 4), "http://127.0.0.1:9", "one", self.folder / "mlflow", warn=print
        )
        self.progress = Progress(3, 4, 0.0, self.stream, lambda: self.recorder.records.values())
        settings = SearchSettings(
            FULL.joined_space(),
            "one",
            seed=0,
            rounds=4,
            sampler="random",
            objectives=self.objectives,
            pairs=FULL.pair_names,
        )
        self.search = OptunaSearcher(settings, storage_of(self.folder))

    @property
    def callbacks(self):
        return self.recorder, self.tracking, self.progress

    def begin(self, trial_id):
        trial = SimpleNamespace(trial_id=trial_id, config=self.search.suggest(trial_id), last_result={}, status="")
        trial.run_metadata = SimpleNamespace(checkpoint_manager=SimpleNamespace(best_checkpoint_results=[]))
        trial.checkpoint, trial.storage = None, SimpleNamespace(trial_fs_path=str(self.folder / trial_id))
        for one in self.callbacks:
            one.on_trial_start(0, [trial], trial)
        return trial

    def report(self, trial, number):
        trial.last_result = result = result_of(trial.trial_id, number)
        (self.search.on_trial_complete if result["done"] else self.search.on_trial_result)(trial.trial_id, result)
        for one in self.callbacks:
            one.on_trial_result(0, [trial], trial, result)
        if result["done"]:
            for one in self.callbacks:
                one.on_trial_complete(0, [trial], trial)

    def go_on(self):
        """The driver dies and is started again: what Tune's snapshot has of the callbacks is the recorder's state."""
        state = self.recorder.get_state()
        self.open()
        self.recorder.set_state(state)
        self.progress.on_step_begin(0, [])


@pytest.fixture(params=["in one go", "resumed"])
def driven(tmp_path, request):
    (tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump({"sweep": FULL.to_dict(), "data_fingerprints": {}, "versions": {}})
    )
    driver = Driver(tmp_path, OBJECTIVES)
    for trial_id, rounds in PLANTED.items():
        trial = driver.begin(trial_id)
        for number in range(1, len(rounds) + 1):
            driver.report(trial, number)
            if request.param == "resumed" and (trial_id, number) == ("t0", 3):
                driver.go_on()
                trial = driver.begin(trial_id)
                driver.report(trial, 3)  # whose checkpoint was not whole yet
    driver.recorder.write()
    return driver


def test_all_who_say_best_mean_the_same_round(driven):
    records, run = [*driven.recorder.records.values()], Run.read(driven.folder)
    for known in (records, run.records):
        best = known[0]
        assert (best.score, best.history.best_round, best.rounds, best.last_score) == (0.75, 2, 4, 0.5)
        assert best.items == tuple(result_of("t0", 2)["items"])
        (chosen, *_) = candidates(known, 1, [], 4)
        assert (chosen.trial_id, chosen.rounds, chosen.searched) == ("t0", 2, 0.75)
        assert [one.number for one in front(known, OBJECTIVES)] == [0, 1]
        (line,) = in_words(known, OBJECTIVES)
        assert line.endswith("trial 0 (75.0 %, 3, 0.2, 18); trial 1 (60.0 %, 0.5, 0.5, 9)")
    told = optuna.load_study(study_name="one", storage=storage_of(driven.folder)).trials
    worst = [0.0, float("inf"), 0.0, float("inf")]
    assert [one.values for one in told] == [[0.75, 3.0, 0.2, 18.0], [0.6, 0.5, 0.5, 9.0], worst]
    assert {one.number for one in driven.search.study.best_trials} == {0, 1}, "Optuna's own Pareto front"
    assert "| 1 | 0 | 75.0 % |" in (driven.folder / "leaderboard.md").read_text()
    job = job_of(run, "best")
    assert (job.record.number, job.rounds, job.score, job.items) == (0, 2, 0.75, records[0].items)
    _, first = like(FULL, run)
    assert first[0] == records[0].params
    assert driven.progress.state.best_line().startswith("best 75.0 % (chance 0.0 %): trial 0, round 2")


def test_mlflow_has_the_same_best_score(driven):
    driven.tracking.log_winner("t0")
    events = read_events(driven.folder / "mlflow/events.jsonl")
    last = {e["trial"]: e["metrics"]["best_score"] for e in events if "best_score" in e.get("metrics", {})}
    assert last == {"t0": 0.75, "t1": 0.6, "t2": 0.0}, "by it MLflow's page is sorted, and t2 has no weights"
    assert events[-1]["tags"] == {"best_trial": "t0", "best_score": 0.75}
    assert len([e for e in events if e["trial"] == "t0" and "step" in e]) == 4


def test_a_single_objective_is_told_the_best_round_and_the_pruner_every_round(tmp_path):
    driver = Driver(tmp_path, ("score",))
    trial = driver.begin("t0")
    for number in range(1, 5):
        driver.report(trial, number)
    (told,) = optuna.load_study(study_name="one", storage=storage_of(tmp_path)).trials
    assert told.value == driver.recorder.records["t0"].score == 0.75
    assert told.intermediate_values == {1: 0.3, 2: 0.75, 3: 0.75, 4: 0.5}
