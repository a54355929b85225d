"""MLflow's record of a sweep: every trial's end, metrics, tags and parameters, in a real store."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest

from sweeps.results.records import TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.tracking import shared_view
from sweeps.tracking.events import merge, metrics_of
from sweeps.tracking.mlflow_callback import MLflowTracking, TrackedSweep, data_of_facts, source_tags
from tests.support.tracking_kit import (
    ROUNDS,
    FakeTrial,
    changed_environment,
    report,
    runs_of,
    shared_database,
    steps,
    track,
)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    return shared_database(tmp_path_factory)


def test_every_end_of_a_trial_is_a_status_and_a_tag(database, tmp_path):
    tags = {"task": "arena", "seed": 3, "commit": "abc"}
    tracking = track(database, "ends", tmp_path, tags=tags, params={"num_samples": 5})
    trials = {name: FakeTrial(name) for name in ("full", "cut", "nan", "bad", "late", "lost")}
    tracking.setup()
    for trial in trials.values():
        tracking.on_trial_start(0, [], trial)
    for round_, score in [(1, 0.2), (2, 0.6), (3, 0.4)]:
        report(tracking, trials["full"], round_, score, done=round_ == 3, items=[1, 0], pid=7, hostname="me")
    report(tracking, trials["cut"], 1, 0.1, done=True, memory_halvings=2)
    report(tracking, trials["nan"], 1, 0.0, done=True, diverged=True, grad_norm=float("nan"))
    report(tracking, trials["late"], 2, 0.3, done=False)
    for name in ("full", "cut", "nan"):
        tracking.on_trial_complete(0, [], trials[name])
        trials[name].status = "TERMINATED"
    tracking.on_trial_error(0, [], trials["bad"])
    trials["late"].status = trials["bad"].status = "TERMINATED"
    tracking.on_experiment_end([trial for name, trial in trials.items() if name != "lost"])
    best = tmp_path / "best"
    best.mkdir()
    (best / "adapter_config.json").write_text("{}")
    tracking.log_winner("full")
    assert tracking.close()

    parent, runs = runs_of(database, "ends")
    assert {name: (run.info.status, run.data.tags["ended"]) for name, run in runs.items()} == {
        "full": ("FINISHED", "finished"),
        "cut": ("KILLED", "pruned"),
        "nan": ("FAILED", "diverged"),
        "bad": ("FAILED", "failed"),
        "late": ("KILLED", "interrupted"),
        "lost": ("KILLED", "lost"),
    }
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"num_samples": "5"}
    assert parent.data.tags["best_trial"] == "full"
    full = runs["full"]
    assert full.data.metrics == {"score": 0.4, "best_score": 0.6, "loss": 1 / 3}
    assert "memory_halvings" not in full.data.tags
    assert runs["cut"].data.tags["memory_halvings"] == "2 by round 1"
    assert full.data.params == {"learning_rate": "0.1"}
    assert {k: full.data.tags[k] for k in tags} == {"task": "arena", "seed": "3", "commit": "abc"}
    assert steps(database, full) == [(1, 0.2), (2, 0.6), (3, 0.4)]
    assert steps(database, full, "best_score") == [(1, 0.2), (2, 0.6), (3, 0.6)]
    artifacts = Path(full.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "best" / "adapter_config.json").is_file()
    assert artifacts.parents[1] == Path(database.removeprefix("sqlite:///")).parent / "mlartifacts"


def finished(database, experiment, folder, learners=("lora", "hybrid", "lora"), **more):
    """The tracking of a sweep, named after its folder, whose trials, one for each learner, have ended."""
    sweep, records = TrackedSweep(folder.name, ROUNDS, **more), []
    tracking = MLflowTracking(sweep, database, experiment, folder / "queue")
    for number, learner in enumerate(learners):
        own = {"learning_rate": 0.1 * (number + 1), "batch": 8} | ({"alpha": 2} if learner == "lora" else {})
        trial = FakeTrial(f"t{number}", own, learner=learner)
        tracking.on_trial_start(0, [], trial)
        report(tracking, trial, 1, 0.8 - number / 10, done=True)
        tracking.on_trial_complete(0, [], trial)
        history = TrialHistory(({"round": 1, "score": 0.8 - number / 10, "loss": 1.0, "diverged": False},))
        records.append(TrialRecord(f"t{number}", number, trial.config["params"], "finished", history, 60))
    tracking.on_experiment_end([])
    tracking.log_leaderboard(records)
    assert tracking.close()
    return tracking


def test_the_address_opens_a_view_of_the_sweep_with_what_its_columns_show(database, tmp_path):
    from mlflow import MlflowClient

    finished(database, "views", tmp_path / "before" / "x")  # another one in the experiment, of the same name
    tracking = finished(database, "views", tmp_path / "x")
    lines = tracking.address(5001).splitlines()
    assert max(map(len, lines)) < 80
    page, _, key = lines[-1].rpartition("?viewStateShareKey=")
    client = MlflowClient(database)
    experiment = client.get_experiment_by_name("views")
    assert page == f"  http://127.0.0.1:5001/#/experiments/{experiment.experiment_id}/runs"
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
    found = client.search_runs(
        [experiment.experiment_id], view["searchFilter"], order_by=[f"{view['orderByKey']} DESC"]
    )
    assert [run.info.run_name for run in found][-1] == "x lora 2", "the best first"
    assert {run.info.run_name for run in found} == {"x", "x lora 0", "x hybrid 1", "x lora 2"}
    assert len(found) == 4, "its own, with its parent"
    parent = next(run for run in found if run.info.run_name == "x")
    runs = {run.data.tags["espalier.trial_id"]: run for run in found if run is not parent}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    (group,) = view["groupBy"]["groupByKeys"]
    assert {run.data.tags[group["groupByData"]] for run in found} == {"x"}
    assert parent.data.metrics["best_score"] == 0.8
    shown = {name: [run.data.tags[name] for run in runs.values()] for name in ("interval", "differs", "ended")}
    assert set(shown["differs"]) == {"(the best)", "learning_rate=0.3"}
    assert runs["t0"].data.tags["interval"] == "68.2-88.2", "Wilson's, 48 of 60"
    assert {f"tags.`{name}`" for name in shown} | {"metrics.`best_score`"} <= set(view["selectedColumns"])
    curves, parallel = view["compareRunCharts"]
    assert curves["selectedMetricKeys"] == ["score"]
    assert parallel["selectedParams"] == ["learning_rate"], "alpha is not one of hybrid's, and batch is the same in all"


def test_a_version_whose_pages_are_not_known_gets_a_plain_address(database, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(shared_view, "KNOWN", ("2.",))
    tracking = finished(database, "plain", tmp_path)
    parent, runs = runs_of(database, "plain")
    page, _, query = tracking.address(5001).rpartition("?")
    assert page.endswith(f"http://127.0.0.1:5001/#/experiments/{parent.info.experiment_id}/runs")
    order = {"orderByKey": ["metrics.`best_score`"], "orderByAsc": ["false"]}
    where = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    assert parse_qs(query) == order | {"searchFilter": [where]}, "of this sweep alone, as others are beside it"
    found = MlflowClient(database).search_runs([parent.info.experiment_id], where)
    assert {one.info.run_id for one in found} == {one.info.run_id for one in runs.values()}
    assert not any(
        name.startswith("mlflow.shared") for name in MlflowClient(database).get_experiment_by_name("plain").tags
    )


def test_runs_carry_their_data_their_script_and_their_commit(database, tmp_path):
    facts = {
        "sweep": {"pairs": [{"task": {"name": "arena", "class": "a.B", "train_size": 40}}]},
        "data_fingerprints": {"arena": "f00d"},
        "command": ["sweeps/arena.py", "--seed", "1"],
        "commit": "abc",
    }
    data = {"arena": ("f00d", json.dumps(facts["sweep"]["pairs"][0]["task"]))}
    assert data_of_facts(facts) == data
    tags = {"task": "arena"} | source_tags(facts)
    for _ in range(2):  # sent twice, it is there once
        finished(database, "inputs", tmp_path, tags=tags, data=data)
        (tmp_path / "queue/delivered").unlink()
    parent, runs = runs_of(database, "inputs")
    for run in (parent, *runs.values()):
        (one,) = run.inputs.dataset_inputs
        assert (one.dataset.name, one.dataset.digest) == ("arena", "f00d")
        assert json.loads(one.dataset.source)["train_size"] == 40
        source = {name: run.data.tags[f"mlflow.source.{name}"] for name in ("name", "type", "git.commit")}
        assert source == {"name": "sweeps/arena.py", "type": "LOCAL", "git.commit": "abc"}


def test_what_mlflow_refuses_does_not_hold_back_the_rest(database, tmp_path):
    warnings: list[str] = []
    tracking, trial = track(database, "refused", tmp_path, warnings), FakeTrial("a", {"r": 8, "alpha (x)": "y" * 9000})
    tracking.on_trial_start(0, [], trial)
    report(tracking, trial, 1, 0.5, **{f"metric_{i}": i for i in range(250)}, **{"../up": 1.0})
    assert tracking.close()
    _, runs = runs_of(database, "refused")
    assert len(runs["a"].data.metrics) == 250 + 3  # score, loss, best_score
    assert runs["a"].data.params == {"r": "8", "alpha _x_": "y" * 1000}
    assert len(warnings) == 1
    assert "refused '../up'" in warnings[0]


def test_only_folders_of_the_sweep_are_uploaded(database, tmp_path):
    """The queue of a folder from somebody else is read by `--resume`: it may name any folder of this machine."""
    mine, run, warnings = tmp_path / "mine", tmp_path / "run", []
    for folder in (mine, run / "best"):
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("own")
    (run / "linked").symlink_to(mine)
    first = track(database, "uploads", run)
    first.on_trial_start(0, [], FakeTrial("a"))
    first.close()
    with (run / "queue/events.jsonl").open("a") as queue:
        for name in (str(mine), "../mine", "linked", "..", ".", "", "queue/../../mine", "best"):
            queue.write(json.dumps({"trial": "a", "at": 1, "folder": name, "artifact": "../../../above"}) + "\n")
            if name != "best":
                queue.write(json.dumps({"trial": "a", "at": 1, "model": {"folder": name, "metrics": {}}}) + "\n")

    assert track(database, "uploads", run, warnings).close()
    _, runs = runs_of(database, "uploads")
    artifacts = Path(runs["a"].info.artifact_uri.removeprefix("file://"))
    assert [one.relative_to(artifacts).as_posix() for one in artifacts.rglob("*.txt")] == ["best/notes.txt"]
    assert not (artifacts.parents[2] / "above").exists()
    assert warnings == [f"{str(mine)!r} is not a folder of the sweep, and is not uploaded to MLflow"], "warned once"


def test_a_finalist_is_a_logged_model_with_its_files_and_its_latest_score(database, tmp_path):
    from mlflow import MlflowClient

    run = tmp_path / "run"
    for trial, text in (("a", "weights of a"), ("b", "weights of b")):
        (run / "finalists" / trial / "adapter").mkdir(parents=True)
        (run / "finalists" / trial / "adapter" / "adapter_config.json").write_text(text)
    first = track(database, "models", run)
    for trial in ("a", "b"):
        first.on_trial_start(0, [], FakeTrial(trial))
        first.log_finalist(trial, {"finalist": True}, 0.5, f"finalists/{trial}/adapter")
    time.sleep(0.002)  # MLflow keeps one value a millisecond
    first.log_finalist("a", {}, 0.7, "finalists/a/adapter")  # after further seeds
    first.log_finalist("b", {}, 0.6, None)  # its files are not at hand any more
    assert first.close()
    again = track(database, "models", run)  # an answer that was lost: everything is sent twice
    again._queue.append({"trial": "a", "at": 1, "model": {"folder": "finalists/a/adapter", "metrics": {}}})
    assert again.close()

    _, runs = runs_of(database, "models")
    found = MlflowClient(database).search_logged_models([runs["a"].info.experiment_id])
    models = {one.source_run_id: one for one in found}
    assert [one.status for one in found] == ["READY", "READY"]
    for trial, scores in (("a", {0.5, 0.7}), ("b", {0.5})):
        model = models[runs[trial].info.run_id]
        assert (model.name, model.params) == (runs[trial].info.run_name, {"learning_rate": "0.1"})
        assert {one.value for one in model.metrics} == scores
        saved = Path(model.artifact_location.removeprefix("file://"))
        assert (saved / "adapter_config.json").read_text() == f"weights of {trial}"
    assert runs["a"].data.metrics["test_score"] == 0.7


def test_for_a_sweep_tags_say_what_ran_and_parameters_carry_their_own_names(database, tmp_path):
    pair = SimpleNamespace(
        learner=SimpleNamespace(name="lora"), task=SimpleNamespace(name="arena"), base="builtin:tiny"
    )
    numbers = {"num_samples": 4, "rounds": ROUNDS, "reduction_factor": 3, "search": "tpe", "seed": 7}
    numbers |= {"scheduler": "asha"}
    sweep = SimpleNamespace(
        name="arena-2",
        pairs=(pair,),
        resolve=lambda params: pair,
        effective_grace_period=lambda: 1,
        several_bases=False,
        **numbers,
    )
    facts = {"data_fingerprints": {"arena": "f00d"}, "commit": "abc"}
    environment = {"MLFLOW_TRACKING_URI": database, "MLFLOW_EXPERIMENT_NAME": "for-sweep"}
    with changed_environment(environment):
        tracking = MLflowTracking.for_sweep(sweep, facts, tmp_path)
    tracking.on_trial_start(0, [], FakeTrial("a", {"r": 8}, learner="lora"))
    assert tracking.close()
    parent, runs = runs_of(database, "for-sweep")
    assert parent.info.run_name == "arena-2"
    assert parent.data.params == {name: str(value) for name, value in numbers.items()} | {"grace_period": "1"}
    assert runs["a"].data.params == {"r": "8"}
    tags = {"learner": "lora", "task": "arena", "base": "builtin:tiny", "seed": "7", "data_fingerprint": "arena: f00d"}
    assert {name: runs["a"].data.tags[name] for name in tags} == tags


def test_many_events_become_one_update_per_run():
    events = [
        {"trial": "a", "at": 1, "params": {"r": 8}, "tags": {"x": 1}},
        {"trial": None, "at": 2, "tags": {"y": True}},
        {"trial": "a", "at": 3, "metrics": {"score": 0.5}, "step": 1},
        {"trial": "a", "at": 4, "status": "KILLED", "tags": {"x": 2}},
        {"trial": "a", "at": 5, "status": "RUNNING"},
    ]
    first, second = merge(events)
    assert (first.trial, first.params, first.tags) == ("a", {"r": "8"}, {"x": "2"})
    assert (first.metrics, first.status, first.ended) == ([("score", 0.5, 3, 1)], "RUNNING", 5)
    assert (second.trial, second.tags, second.status) == (None, {"y": "True"}, None)


def test_only_what_the_learner_reported_is_a_metric():
    result = {
        "score": 1,
        "loss": 0.5,
        "diverged": False,
        "items": [1],
        "pid": 3,
        "config": {"r": 8},
        "by": {"kind": 0.2},
    }
    assert metrics_of(result | {"time_total_s": 4.0, "date": "today", "done": True}) == {
        "score": 1.0,
        "loss": 0.5,
        "by/kind": 0.2,
    }
