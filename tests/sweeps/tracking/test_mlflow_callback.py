"""MLflow's record of a sweep: every trial's end, metrics, tags and parameters, in a real store."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

from sweeps.results.trial_params import TrialParams
from sweeps.tracking.events import merge, metrics_of
from sweeps.tracking.mlflow_callback import MLflowTracking
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
    page, _, query = tracking.address(5001).rpartition("?")
    assert page.endswith(f"http://127.0.0.1:5001/#/experiments/{full.info.experiment_id}/runs")
    order = {"orderByKey": ["metrics.`best_score`"], "orderByAsc": ["false"]}
    from mlflow import MlflowClient

    where = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    assert parse_qs(query) == order | {"searchFilter": [where]}, "of this sweep alone, as others are beside it"
    found = MlflowClient(database).search_runs([full.info.experiment_id], where)
    assert {one.info.run_id for one in found} == {one.info.run_id for one in runs.values()}


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

    assert track(database, "uploads", run, warnings).close()
    _, runs = runs_of(database, "uploads")
    artifacts = Path(runs["a"].info.artifact_uri.removeprefix("file://"))
    assert [one.relative_to(artifacts).as_posix() for one in artifacts.rglob("*.txt")] == ["best/notes.txt"]
    assert not (artifacts.parents[2] / "above").exists()
    assert warnings == [f"{str(mine)!r} is not a folder of the sweep, and is not uploaded to MLflow"], "warned once"


def toy(config):
    for round_ in range(1, ROUNDS + 1):
        tune.report(
            {"score": config["params"].fields["x"] * round_ / 10, "loss": 1.0, "diverged": False, "seconds": 0.1}
        )


@pytest.mark.usefixtures("ray_session")
def test_a_real_tune_run(database, tmp_path):
    tracking = track(database, "real", tmp_path)
    analysis = tune.run(
        toy,
        config={"params": tune.grid_search([TrialParams("", {"x": x}) for x in (3, 2, 1)])},
        metric="score",
        mode="max",
        scheduler=AsyncHyperBandScheduler(time_attr="training_iteration", max_t=ROUNDS, grace_period=1),
        storage_path=str(tmp_path / "ray"),
        stop={"training_iteration": ROUNDS},
        max_concurrent_trials=1,
        callbacks=[tracking],
        verbose=0,
    )
    assert tracking.close()
    parent, runs = runs_of(database, "real")
    assert parent.info.status == "FINISHED"
    assert set(runs) == {trial.trial_id for trial in analysis.trials}
    ended = {run.data.params["x"]: (run.data.tags["ended"], run.info.status) for run in runs.values()}
    assert ended["3"] == ("finished", "FINISHED")
    assert ended["1"] == ("pruned", "KILLED")  # below the best half at the first rung
    first = next(run for run in runs.values() if run.data.params["x"] == "3")
    assert steps(database, first) == [(1, 0.3), (2, 0.6), (3, pytest.approx(0.9))]
    assert set(first.data.metrics) == {"score", "best_score", "loss", "seconds"}


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
