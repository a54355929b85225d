"""How often the first attempt is right, by how sure the learner was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.arc_files import ids, recolour, write
from trainables.learners.arc.calibration import calibration, level_of
from trainables.tasks.arc.task import ArcTask

RIGHT = [[0, 2, 3], [0, 2, 0], [2, 0, 0]]
WRONG = [[0, 0, 0]] * 3


def said(first: list, second: list) -> str:
    return json.dumps([{"attempt_1": first, "attempt_2": second}])


def test_only_the_first_attempt_counts_and_tasks_without_an_answer_have_no_level(tmp_path: Path) -> None:
    keys = ids("search", 4)
    other = dict.fromkeys((*ids("train", 1), *ids("test", 1)), recolour())
    task = ArcTask(data=write(tmp_path / "tasks", dict.fromkeys(keys, recolour()) | other))
    answers = {keys[0]: said(RIGHT, WRONG), keys[1]: said(WRONG, RIGHT), keys[2]: said(RIGHT, RIGHT)}
    answers[keys[3]] = said([], [])
    completions = [answers[example.key] for example in task.search()]
    levels = {keys[0]: "sure", keys[1]: "sure", keys[2]: "programs"}
    found = calibration(task, task.search(), completions, levels)
    assert found == {
        "share.sure": 0.5,
        "pass_at_1.sure": 0.5,
        "share.programs": 0.25,
        "pass_at_1.programs": 1.0,
    }


@pytest.mark.parametrize(
    ("agreement", "level"), [(1.0, "sure"), (0.9, "sure"), (0.89, "likely"), (0.5, "likely"), (0.0, "unsure")]
)
def test_levels(agreement: float, level: str) -> None:
    assert level_of(agreement) == level
