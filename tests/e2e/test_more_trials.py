"""`--resume --num-samples N` adds trials to a sweep that has ended, and finalists look at the test split once more."""

from __future__ import annotations

import mlflow
import pytest

from sweeps.results.run_folder import Run
from sweeps.tracking.mlflow_store import TRIAL_TAG
from tests.support.driving import command_here, sweep_here

ALIKE = ["--set", "planted=nothing", "quality=0.9"]  # a search ends by itself: no further trial can be much better


def tags_of(folder):
    """The tags of the trials' runs in MLflow, by trial id."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    return {one.data.tags[TRIAL_TAG]: one.data.tags for one in runs if TRIAL_TAG in one.data.tags}


def ids(run):
    return [one.trial_id for one in run.records]


@pytest.mark.parametrize(
    ("spare", "axes", "planned"),
    [(0, ["--set", "planted=nothing"], 6), (400, ALIKE, 30)],
    ids=["the same questions", "others, after a search that ended by itself"],
)
def test_a_sweep_that_has_ended_goes_on_and_looks_again(tmp_path, ray_session, monkeypatch, spare, axes, planned):
    monkeypatch.setattr("sweeps.spec.trust._modules", {})
    folder, flags = tmp_path / "runs/toy", [*axes, "--rounds", "1", "--finalists", "2", "--task.spare", str(spare)]
    again = [*flags, "--name", "toy", "--resume", "--num-samples"]
    sweep_here(tmp_path, *flags, "--num-samples", str(planned))
    first = Run.read(folder)
    there, finalists = len(first.records), [one.name for one in first.finals]  # read now
    assert (there < planned) == (axes is ALIKE)
    refused = sweep_here(tmp_path, *again, str(there - 1), check=False)
    assert refused.returncode == 2
    assert (
        f"--num-samples {there - 1}: runs/toy has {there} trials; give more than {there}, the number" in refused.stderr
    )
    assert refused.stderr.count("\n") == 1

    done = sweep_here(tmp_path, *again, str(there + 4), report=True)
    second = Run.read(folder)
    assert ids(second)[:there] == ids(first), "the same study"
    assert len(second.records) == there + 4
    assert second.facts["sweep"]["num_samples"] == there + 4
    assert (second.confirmation.look, len(second.earlier_looks)) == (2, 1)
    before, known = second.earlier_looks[0], second.confirmation
    assert [one.name for one in before.finals] == finalists
    asked = [set(Run(path, {}, {}).questions.prompt) for path in (folder / "looks/1", folder)]
    if spare:
        assert known.spent == 0
        assert not asked[0] & asked[1], "no question is asked twice"
        said = "Look 2: other questions and seeds than before, so its error rate of 5 % is its own"
    else:
        assert known.spent == before.rate_spent > 0
        assert known.rate_spent <= 0.05 - known.spent
        assert asked[0] == asked[1]
        said = f"Second look at the same questions (look 2): {100 * known.level:.2g} % of the error rate of 5 % is left"
    assert said in done.stdout
    for text in (
        done.stdout,
        (folder / "leaderboard.md").read_text(),
        (folder / "report.html").read_text(),
        command_here(tmp_path, "status", "runs/toy").stdout,
    ):
        assert said in text
        assert "Look 1, before further trials: trial " in text
    tags = tags_of(tmp_path)
    for look, name in ((before, "test_score"), (known, "test_score_look_2")):
        trained = {one.trial_id: f"{one.score:.4f}" for one in look.finals if one.trial_id}
        assert {trial: own[name] for trial, own in tags.items() if name in own} == trained

    sweep_here(tmp_path, *again, str(there + 4))
    last = Run.read(folder)
    assert ids(last) == ids(second)
    assert (last.confirmation.look, len(last.earlier_looks)) == (2, 1), "there is no third look"
