"""`espalier evaluate` on the folder of a small sweep."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.commands_kit import called
from tests.support.lm_eval_kit import write_tasks

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed: make lm-eval")


def evaluate(monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    return called(["evaluate", "runs/run", *flags], monkeypatch)


def test_both_models_are_compared_question_by_question(run: Path, monkeypatch, capsys):
    write_tasks(Path("tasks"))
    flags = ["--tasks", "own_choice,own_likelihood", "own_group", "--include-path", "tasks", "--limit", "6"]
    assert evaluate(monkeypatch, *flags, "--output", "out.json") == 0
    printed = capsys.readouterr().out
    assert "--apply-chat-template asks in it" in printed
    told = json.loads(Path("out.json").read_text())
    rows = {(one["task"], one["metric"]): one for one in told["differences"]}
    assert {*rows} == {
        *(("own_choice", metric) for metric in ("acc", "acc_norm")),
        *(("own_likelihood", metric) for metric in ("acc", "perplexity")),
        ("own_group", "acc"),
    }
    questions = told["questions"]["own_choice"]
    assert len(questions) == 6
    for who, name in (("winner", "trained"), ("untouched", "untouched")):
        right = [one[who]["acc"] for one in questions]
        assert rows["own_choice", "acc"][name] == pytest.approx(sum(right) / 6)
        of_group = sum(rows[task, "acc"][name] for task in ("own_choice", "own_likelihood")) / 2
        assert rows["own_group", "acc"][name] == pytest.approx(of_group)
    assert rows["own_group", "acc"]["n"] == 12
    said = [[one[who]["responses"] for one in questions] for who in ("winner", "untouched")]
    assert said[0] != said[1]
    assert "| own_choice | acc |" in printed
    assert evaluate(monkeypatch, *flags, "--output", "out.json") == 2
    assert "--output out.json: give a new file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "task", "told"),
    [
        ({"generation_kwargs": {"do_sample": True, "temperature": 0.7}}, "own_generate", "samples its answers"),
        ({"generation_kwargs": {"num_beams": 4}}, "own_generate", "hold num_beams"),
        ({"unsafe_code": True}, "own_generate", "runs code that the model writes"),
        ({"dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}}, "own_choice", "its data (json) cannot be loaded"),
    ],
)
def test_a_task_that_cannot_be_asked_is_named_in_one_line(run, monkeypatch, capsys, changed, task, told):
    write_tasks(Path("tasks"), **{task: changed})
    assert evaluate(monkeypatch, "--tasks", task, "--include-path", "tasks") == 2
    line = capsys.readouterr().err.splitlines()[-1]  # progress bars of data come before it
    assert f"espalier: --tasks {task}: " in line
    assert told in line


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--tasks", ","], "--tasks names no task"),
        (["--limit", "0"], "--limit 0: give 1 or more"),
        (["--num-fewshot", "-1"], "--num-fewshot -1: give 0 or more"),
        (["--include-path", "nowhere"], "--include-path nowhere is no folder"),
        (["--output", "nowhere/out.json"], "give a new file in a folder that exists"),
    ],
)
def test_a_wrong_flag_is_told_in_one_line(run, monkeypatch, capsys, flags, told):
    assert evaluate(monkeypatch, "--tasks", "own_choice", *flags) == 2
    assert told in capsys.readouterr().err


def test_more_examples_than_a_task_has_are_refused_before_anything_is_asked(run, monkeypatch, capsys):
    """Its 50 questions are its only examples, and none is an example of itself."""
    write_tasks(Path("tasks"))
    flags = ["--tasks", "own_choice", "--include-path", "tasks", "--num-fewshot", "50"]
    assert evaluate(monkeypatch, *flags) == 2
    assert "--num-fewshot 50: own_choice has 49 examples to show; give fewer" in capsys.readouterr().err


def test_an_unknown_task_is_answered_with_the_nearest_names(run, monkeypatch, capsys):
    few = write_tasks(Path("tasks"))  # in the place of lm-eval's own, whose list takes half a minute to read
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(few.absolute() / "manager.py"))
    assert evaluate(monkeypatch, "--tasks", "own_chioce", "own_likelihood") == 2
    assert "lm-eval has no such task; the nearest names: own_choice" in capsys.readouterr().err


def test_without_the_package_one_line_names_the_remedy(run, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("lm_eval", "sweeps.commands.evaluation."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as if it were not installed
    assert evaluate(monkeypatch, "--tasks", "arc_easy") == 2
    assert "lm-eval, which has the tasks, is not installed; run `make lm-eval`" in capsys.readouterr().err
