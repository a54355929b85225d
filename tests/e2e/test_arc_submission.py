"""`espalier export --submission` for tasks without known outputs; for a test split see `test_scripts.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sweeps.commands.export import ExportOptions, export
from sweeps.results.run_folder import Run
from tests.support.arc_files import task
from tests.support.driving import sweep_here

ROOT = Path(__file__).parents[2]
LEARNERS = ("ensemble", "percell", "efe", "lora_ttt")
MIRRORED = [[[1, 2], [3, 4]], [[5, 0], [0, 6]], [[7, 8], [9, 1]], [[4, 4, 2]]]


def test_tasks_without_test_outputs_are_all_answered(tmp_path, ray_session):
    """Two tasks that a lens solves, one of them larger than the sweep's filter admits, and one that no lens fits."""
    pairs = [(grid, [row[::-1] for row in grid]) for grid in MIRRORED]
    odd = task([([[1]], [[1, 1]]), ([[1]], [[1, 1, 1]])], [([[2]], [])])
    challenges = {"mirror": task(pairs[:2], pairs[2:]), "wide": task(pairs[:2], [([[1] * 20], [])]), "odd": odd}
    for one in challenges.values():
        for pair in one["test"]:
            del pair["output"]
    (tmp_path / "challenges.json").write_text(json.dumps(challenges))
    sweep_here(
        tmp_path, "--task.data", "arc1+challenges.json", "--task.max-side", "4", "--task.limit-search", "2",
        "--learner", *LEARNERS, "--num-samples", "4", "--rounds", "1", "--grace-period", "1", "--finalists", "0",
        "--hosts", "1", "--set", "steps_per_round=2", script=ROOT / "sweeps/arc.py",
    )  # fmt: skip
    said = {}
    with pytest.MonkeyPatch.context() as here:
        here.chdir(tmp_path)
        for trial in Run.read(Path("runs/arc")).records:
            export(Path("runs/arc"), ExportOptions(trial=str(trial.number), submission=tmp_path / "submission.json"))
            said[trial.learner] = json.loads((tmp_path / "submission.json").read_text())
    assert said.keys() == {*LEARNERS}
    for learner, answers in said.items():
        assert {key: len(entries) for key, entries in answers.items()} == {"mirror": 2, "wide": 1, "odd": 1}
        assert all(entry.keys() == {"attempt_1", "attempt_2"} for entries in answers.values() for entry in entries)
        grids = [grid for entries in answers.values() for entry in entries for grid in entry.values()]
        assert all(np.ndim(grid) == 2 or grid == [] for grid in grids)
        if learner != "lora_ttt":  # which has no lenses, and learns nothing in two steps
            assert [one["attempt_1"] for one in answers["mirror"]] == [[[8, 7], [1, 9]], [[2, 4, 4]]]
            assert np.shape(answers["wide"][0]["attempt_1"]) == (1, 20)
            assert answers["odd"] == [{"attempt_1": [], "attempt_2": []}]
