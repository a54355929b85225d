"""Parsing of command lines: help shows a script's defaults, and a wrong flag ends in one line."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.cli.main import console
from sweeps import arc, arena, strategyqa, style
from sweeps.cli.flags import read
from trainables.bad_input import BadInput

ROOT = Path(__file__).parents[3]
VERBS = ("status", "stop", "clone", "report", "doctor", "reproduce", "export", "rationales", "ui", "attribute", "judge")


def helped(capsys, call, *given):
    with pytest.raises(SystemExit) as end:
        call(*given)
    assert not end.value.code
    told = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert "None" not in told, "what Python calls nothing"
    assert "(default: )" not in told
    return told


def espalier(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/espalier", *argv])
    console()


@pytest.mark.parametrize("script", [arc, arena, style], ids=lambda script: script.__name__)
def test_help_shows_what_the_script_itself_says(script, capsys):
    told, sweep = helped(capsys, read, script.SWEEP, ["--help"]), script.SWEEP
    assert f"--num-samples INT trials (default: {sweep.num_samples})" in told
    assert f"only these learners (default: {' '.join(pair.learner.name for pair in sweep.pairs)})" in told
    assert f"an eighth of all rounds (default: {sweep.effective_grace_period()})" in told
    assert f"are compared (default: {sweep.pairs[0].base})" in told
    assert "--resources.cpu FLOAT cores (default: 1)" in told
    assert (
        "--finalists INT how many of the best are trained again and scored on the test split; 0: none"
        f" (default: {sweep.finalists})" in told
    )


def test_help_of_several_sweeps_shows_what_they_agree_on(capsys):
    phases = {**strategyqa.SWEEP.phases}
    phases["dpo"] = replace(phases["dpo"], rounds=16)
    told = helped(capsys, read, strategyqa.SWEEP.first, ["-h"], phases)
    assert "--num-samples INT trials (default: 8)" in told
    assert "in the script's order (default: sft cot dpo)" in told
    assert "only these learners (default: lora cot cot_anew dpo)" in told
    assert "rounds of a trial that is not stopped early (default: none)" in told
    assert "an eighth of all rounds (default: none)" in told, "1 of 8, and 2 of 16"


def test_what_help_shows_is_not_taken_for_a_flag():
    """Else a flag's default of the first phase would be the others', too."""
    flags, _ = read(arena.SWEEP, [])
    assert flags.num_samples is None
    assert flags.learner == ()
    assert flags.grace_period is None


def test_espalier_lists_its_commands(capsys, monkeypatch):
    told = helped(capsys, espalier, monkeypatch, "--help")
    assert told.startswith("usage: espalier [-h] {status,")
    for verb in VERBS:
        assert re.search(rf"• {verb} [A-Z]", told), verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_explains_its_arguments(verb, capsys, monkeypatch):
    told = helped(capsys, espalier, monkeypatch, verb, "--help").partition("task options")[0]
    assert told.startswith(f"usage: espalier {verb} [-h]")
    assert re.findall(r"(--[a-z-]+|RUN|TRIAL|TO|VALUES)(?: [A-Z]+)? \(", told) == [], "nothing is said of these"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["statu"], "statu; Available subcommands: status, stop"),
        ([], "Expected one of {status, stop"),
        (["decide", "runs/x", "--minutes", "nan"], "Error parsing --minutes: 'nan' is no FLOAT; see espalier"),
        (["judge", "runs/x", "--max-cost", "nan"], "'nan' is no FLOAT"),
        (["stop"], "Missing from espalier stop: TRIAL; see espalier stop --help"),
        (["status", "--clust"], "--clust; Perhaps you meant: --cluster PATH; see espalier --help"),
        (
            ["ui", "--port", "many"],
            "Error parsing --port: 'many' is no INT; see espalier",
        ),
        (["stop", "3", "--run", "nowhere"], "nowhere is not a sweep's folder"),
    ],
)
def test_a_wrong_command_is_one_line(argv, words, capsys, monkeypatch):
    with pytest.raises(SystemExit) as end:
        espalier(monkeypatch, *argv)
    assert end.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("espalier: ")
    assert words in line


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rounds=abc"], "Error parsing --rounds: 'abc' is no INT; see"),
        (["--rounds", "None"], "'None' is no INT"),
        (["--seats", "many"], "Error parsing --seats: 'many' is no INT|{auto}; see"),
        (["--max-cost", "nan"], "Error parsing --max-cost: 'nan' is no FLOAT; see"),
        (["--resources.cpu", "NaN"], "Error parsing --resources.cpu: 'NaN' is no FLOAT; see"),
        (["--rouns=3"], "--rouns=3; Perhaps you meant: --rounds INT; see"),
        (["--search", "grid"], "'--search'. Expected one of ('tpe', 'random', 'nsga2'); see"),
        (["--set", "r=8", "--set", "lora_alpha=16"], "--set is given 2 times; give it once"),
        (["--learner=lora", "--rounds", "2", "--learner=hybrid"], "--learner is given 2 times"),
        (["--set", "--rounds", "2"], "--set has no value"),
        (["--rounds", "2", "--learner"], "--learner has no value"),
    ],
)
def test_a_wrong_flag_is_one_line_with_its_value_and_a_remedy(argv, words):
    with pytest.raises(BadInput) as refused:
        read(arena.SWEEP, argv)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wrong_flag_is_told_on_a_terminal_with_colours():
    """There the parser's frame is coloured, which once left nothing of the message."""
    ours, terminal = pty.openpty()
    command = [sys.executable, str(ROOT / "sweeps/arena.py"), "--rounds=abc"]
    environment = os.environ | {"TERM": "xterm-256color"}
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(terminal)
    os.close(ours)
    assert done.returncode == 2
    assert done.stderr == f"arena.py: Error parsing --rounds: 'abc' is no INT; see python {command[1]} --help\n"


def test_an_optional_flag_is_read_as_what_it_holds():
    given = {"seats": 3, "hosts": "auto", "max_cost": 1.5, "like": Path("runs/arena"), "search": "tpe"}
    flags, _ = read(arena.SWEEP, [f"--{name.replace('_', '-')}={value}" for name, value in given.items()])
    assert {name: getattr(flags, name) for name in given} == given
    _, task = read(arc.SWEEP, ["--task.limit-search", "none"])
    assert arc.SWEEP.pairs[0].task.limit_search
    assert task.limit_search is None
