"""A score function of the user's own: what it gets, what may go wrong in it, and who may start it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.spec.sweep import data_fingerprint
from trainables.tasks.own.task import OwnTask
from trainables.tasks.own.user_function import ScoreError, trust_file

ROOT = Path(__file__).parents[4]
SOURCE = """import time

def half(row, completion):
    return 0.5 if completion == row["answer"] else 0

def raises(row, completion):
    return row["nothing"]

def hangs(row, completion):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass

def two(row, completion):
    return 2

def text(row, completion):
    return "x"

def exits(row, completion):
    raise SystemExit(3)

def prints(row, completion):
    print("hello")
    return True
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "my_score.py").write_text(SOURCE)
    return tmp_path / "my_score.py"


def task_of(file, function, **fields):
    data = file.with_name("my.jsonl")
    rows = [{"question": f"What is {n} + 3?", "answer": str(n + 3), "page": n} for n in range(40)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return OwnTask(str(data), scoring=f"{file}:{function}", **fields)


def test_it_gets_the_row_and_the_completion(file):
    trust_file(file)
    task = task_of(file, "half")
    example = task.search()[0]
    assert task.score(example, example.answer) == 0.5
    assert task.score(example, "none") == 0
    assert "it gives right answers 0.50 on average" in "\n".join(task.describe(len))


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        ("raises", r"^my_score\.py, line 7: KeyError: 'nothing' \(my\.jsonl line \d+\)$"),
        ("hangs", r"^my_score\.py, line 1[0-4]: it takes longer than 0\.3 s \(my\.jsonl line \d+\)$"),
        ("two", r"^two returned '2' \(int\); return a number in \[0, 1\] \(my\.jsonl line \d+\)$"),
        ("text", r"^text returned 'x' \(str\); return a number in \[0, 1\] \(my\.jsonl line \d+\)$"),
        ("exits", r"^my_score\.py, line 23: SystemExit: 3 \(my\.jsonl line \d+\)$"),
        ("missing", r"^my_score\.py: LookupError: it has no function 'missing' \(my\.jsonl line \d+\)$"),
    ],
)
def test_what_goes_wrong_names_the_line_and_the_row(file, function, fault):
    trust_file(file)
    task = task_of(file, function, score_seconds=0.3)
    with pytest.raises(ScoreError, match=fault):
        task.score(task.search()[0], "4")


def test_it_goes_on_after_an_error_and_may_print(file):
    trust_file(file)
    raising, printing = task_of(file, "raises"), task_of(file, "prints")
    with pytest.raises(ScoreError):
        raising.score(raising.search()[0], "4")
    with pytest.raises(ScoreError):
        raising.score(raising.search()[0], "4")
    assert printing.score(printing.search()[0], "4") == 1


def test_a_task_that_a_folder_names_does_not_run_it(file):
    task = task_of(file.rename(file.with_name("other.py")), "half")
    with pytest.raises(ScoreError, match=r"if you trust that code, add --trust .*other\.py$"):
        task.score(task.search()[0], "4")


def test_another_version_is_another_task(file):
    before = data_fingerprint(task_of(file, "half"))
    file.write_text(SOURCE.replace("0.5", "0.6"))
    assert data_fingerprint(task_of(file, "half")) != before


def test_it_goes_along_to_a_machine_without_the_file(file, tmp_path):
    trust_file(file)
    task = replace(task_of(file, "half"), max_new_tokens=8)
    (tmp_path / "task.pickle").write_bytes(pickle.dumps((task, task.search()[0])))
    file.unlink()
    code = (
        "import pickle, sys; task, example = pickle.load(open(sys.argv[1], 'rb'));"
        "print(task.score(example, example.answer))"
    )
    call = [sys.executable, "-c", code, str(tmp_path / "task.pickle")]
    done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "0.5"
