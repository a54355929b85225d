"""A sweep over forty questions of one's own in a table, and a talk with its winner."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from sweeps.cli.main import console
from sweeps.commands.reproduce import reproduce
from sweeps.results.run_folder import Run
from tests.support.driving import MINIATURES, sweep_here
from tests.support.miniature_kit import check_miniature
from trainables.bad_input import BadInput

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "sweeps/own.py"
FUNCTION = "def near(row, completion):\n    return float(row['Answer'][-1:] == completion.strip()[-1:])\n"


def test_forty_questions_in_a_table(tmp_path, ray_session, monkeypatch, capsys):
    out = sweep_here(tmp_path, *MINIATURES["own"], script=SCRIPT).stdout
    check_miniature("own", tmp_path, out)
    assert (
        "prompt: column 'Question'; answer: column 'Answer'; splits by a hash of the prompt: train 21, search 13" in out
    )
    assert "score: number (every answer is a number, or ends with #### and one)" in out
    assert "test has 6 examples, which show differences from 81 points up" in out
    run = Run.read(tmp_path / "runs/own")
    assert {one.learner for one in run.records} == {"lora", "soft_prompt", "hybrid"}
    assert run.answers.prompt.str.match(r"What is \d+ plus \d+\?").all()

    monkeypatch.setattr(sys, "argv", ["espalier", "chat", str(run.folder), "What is 3 plus 4?", "--max-tokens", "8"])
    console()
    winner, base = capsys.readouterr().out.strip().splitlines()
    assert winner.startswith(f"trial {run.trial('best').number} (")
    assert base.startswith("untouched base: ")
    monkeypatch.setattr(sys, "argv", ["espalier", "chat", str(run.folder), "--max-tokens", "8"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is 3 plus 4?\n\nWhat is 5 plus 5?\n"))
    console()
    assert capsys.readouterr().out.strip().splitlines()[:2] == [winner, base], "the same again, and then the next"


def forget_what_was_trusted(monkeypatch):
    """Do as a new process."""
    monkeypatch.setattr("trainables.tasks.own.user_function._trusted", {})
    monkeypatch.setattr("sweeps.spec.trust._modules", {})


def test_a_function_of_ones_own_is_named_on_the_command_line(tmp_path, ray_session, monkeypatch):
    (tmp_path / "my_score.py").write_text(FUNCTION)
    flags = [*MINIATURES["own"], "--learner", "lora", "--task.score", "my_score.py:near", "--name", "mine"]
    out = sweep_here(tmp_path, *flags, script=SCRIPT).stdout
    assert "it gives right answers 1.00 on average" in out
    assert "reproduce runs/mine --trust my_score.py" in out
    monkeypatch.chdir(tmp_path)
    forget_what_was_trusted(monkeypatch)
    with pytest.raises(BadInput, match=r"add --trust .*my_score\.py$"):
        reproduce(Path("runs/mine"))
    reproduce(Path("runs/mine"), trust=("my_score.py",))
    forget_what_was_trusted(monkeypatch)
    (tmp_path / "my_score.py").write_text(FUNCTION.replace("-1", "-2"))
    with pytest.raises(BadInput, match="the data of task 'own' was"):
        reproduce(Path("runs/mine"), trust=("my_score.py",))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "there is no data; give --data with a"),
        (["--data", "my.csv", "--task.answer", "said"], "answer names the column 'said'; columns are question, answer"),
        (["--data", "my.csv", "--task.score", "nowhere.py:f"], "nowhere.py, which cannot be read"),
        (["--data", "my.csv", "--task.score", "my_score.py:two"], "my_score.py, line 2: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_used_ends_in_one_line(tmp_path, flags, told):
    rows = "".join(f"What is {n} plus 3?,{n + 3}\n" for n in range(40))
    (tmp_path / "my.csv").write_text(f"question,answer\n{rows}")
    (tmp_path / "my_score.py").write_text("def two(row, completion):\n    return 1 / 0\n")
    done = sweep_here(tmp_path, "--base", "builtin:tiny", *flags, script=SCRIPT, check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
