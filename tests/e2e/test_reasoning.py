"""A sweep over six generators of reasoning-gym, and what ends one before it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("reasoning_gym", reason="run `make reasoning-gym`")

from sweeps.commands.reproduce import reproduce
from sweeps.results.run_folder import Run
from tests.support.driving import MINIATURES, sweep, sweep_here
from tests.support.miniature_kit import check_miniature
from trainables.tasks.reasoning.task import ReasoningTask

SCRIPT = Path(__file__).parents[2] / "sweeps/reasoning.py"
KINDS = ["chain_sum", "gcd", "leg_counting", "letter_counting", "spell_backward", "syllogism"]


def test_six_generators_in_miniature(tmp_path, ray_session, monkeypatch):
    out = sweep_here(tmp_path, *MINIATURES["reasoning"], script=SCRIPT).stdout
    check_miniature("reasoning", tmp_path, out)
    assert "splits by a hash of the question: train 60, search 30, test 30" in out
    run = Run.read(tmp_path / "runs/reasoning")
    assert {one.learner for one in run.records} == {"lora", "soft_prompt", "hybrid"}
    assert sorted(run.questions.kind.unique()) == KINDS
    task = ReasoningTask(train_size=60, search_size=30, test_size=30)
    asked = {example.key: example for example in task.test()}
    for row in run.answers.itertuples():
        assert row.score in (task.score(asked[row.key], row.completion), 0), "or 0, if it was cut off"
    monkeypatch.chdir(tmp_path)
    reproduce(Path("runs/reasoning"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--task", "rg:chain_sums"], "rg:chain_sums is no generator of reasoning-gym; the nearest are chain_sum"),
        (["--task", "rg:gcd", "--task.params", "most=3"], "rg:gcd has no parameter 'most'; its parameters are min_num"),
        (["--task", "rg:gcd+boxnet"], "rg:boxnet lists no answer to"),
        (["--task", "rg:ransom_note"], "rg:ransom_note draws other questions in every process"),
    ],
)
def test_what_cannot_be_used_ends_in_one_line(tmp_path, flags, told):
    done = sweep_here(tmp_path, "--base", "builtin:tiny", *flags, script=SCRIPT, check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_the_package_one_line_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "reasoning_gym.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    done = sweep(tmp_path, "--base", "builtin:tiny", script=SCRIPT, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "reasoning.py: reasoning-gym is not installed (not here); run `make reasoning-gym`"
