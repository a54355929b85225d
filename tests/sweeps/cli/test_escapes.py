"""Escape sequences in data, folders and answers of servers: no command sends them to the terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import sys

import pytest
import yaml
from rich.console import Console

from sweeps.cli.main import console
from sweeps.arena import SWEEP
from sweeps.cli.doctor import CHECKS
from sweeps.persistence.provenance import describe
from sweeps.results.terminal import printable
from sweeps.spec.checkout import ROOT
from sweeps.tuning.progress import Progress, render
from tests.support.driving import sweep_here
from tests.support.endpoint_kit import Server, echo
from tests.support.report_kit import confirmed, several
from tests.support.report_kit import folder as left_folder
from tests.support.tracking_kit import FakeTrial
from trainables.models.loading import BUILTIN

# Clears the screen, by two codes; sets the title; retypes a command; reverses the text that follows; half a character.
EVIL = "x\x1b[2J\x9b2J\x1b]0;title\x07\r\x08\u202egnp.exe\ud800"
SHOWN = r"x\x1b[2J\x9b2J\x1b]0;title\x07\r\x08\u202egnp.exe\ud800"
CODES = "\x1b\x9b\x07\r\x08\u202e\ud800"


def test_what_is_written_out():
    assert printable(EVIL) == SHOWN
    assert printable("tab\t, line\n, café, 日本, العربية, 👩‍🔬 ~") == "tab\t, line\n, café, 日本, العربية, 👩‍🔬 ~"
    assert printable("\x7f\x85\u2067") == r"\x7f\x85\u2067"


@pytest.fixture
def espalier(monkeypatch, capsys):
    """Runs a command and returns what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["espalier", *map(str, words)])
        with contextlib.suppress(SystemExit):
            console()
        said = "".join(capsys.readouterr())
        assert said
        assert not set(CODES) & set(said), said
        return said

    return run


@pytest.fixture
def run(tmp_path):
    """A folder that somebody else has made: every text in it that a command shows is evil."""
    evil = EVIL.removesuffix("\ud800")  # which no file can hold
    params = [{"lr_scheduler_type": f"{evil}{i}"} for i in range(24)]
    records = [dataclasses.replace(one, params=dataclasses.replace(one.params, fields=dict(one.params.fields) | more))
               for one, more in zip(several(), params, strict=True)]  # fmt: skip
    left = left_folder(tmp_path / "run", records, end=False)
    facts = yaml.safe_load(yaml.safe_dump(describe(SWEEP))) | {"guards": [evil], "command": [evil, "--name", evil]}
    (left / "sweep.yaml").write_text(yaml.safe_dump(facts))
    return left


def test_a_folder_of_somebody_else(run, espalier):
    assert r"lr_scheduler_type=x\x1b[2J" in espalier("status", run).replace("\n", "")
    for command in (["report"], ["reproduce"], ["attribute"], ["export", "--to", run.parent / "to"], ["judge"]):
        espalier(command[0], run, *command[1:])


@pytest.mark.parametrize("where", [["name"], ["task"], ["learner"], ["name", "task", "learner"]], ids=" ".join)
def test_a_folder_that_cannot_be_read(run, espalier, where):
    facts, evil = yaml.safe_load((run / "sweep.yaml").read_text()), EVIL.removesuffix("\ud800")
    sweep = facts["sweep"]
    for one in where:
        if one == "name":
            sweep["name"] = evil
        else:
            sweep["pairs"][0][one]["class"] = f"{evil}.{evil}"
    (run / "sweep.yaml").write_text(yaml.safe_dump(facts))
    for command in ("status", "reproduce", "attribute"):
        espalier(command, run)
    if len(where) == 3:  # a report needs none of them, and its plots take seconds
        espalier("report", run)


def test_a_server(tmp_path, espalier):
    server = Server(says=echo)
    try:
        server.name = EVIL
        ask = ["rationales", tmp_path / "r.jsonl", "--teacher", server.url, "--model", "mini"]
        assert rf"it has {SHOWN}" in espalier(*ask, "--task.train-size", 4)
        server.name, server.faults = "mini", [400]
        server.says = lambda messages: EVIL
        espalier(*ask, "--task.train-size", 4, "--samples", 1)
        (confirmed(tmp_path / "run") / "best").mkdir()
        shutil.copy(BUILTIN["tiny"] / "model.safetensors", tmp_path / "run/best")
        espalier("judge", tmp_path / "run", "--judge", server.url, "--model", EVIL)
    finally:
        server.close()


def test_data(tmp_path, espalier):
    rows = [{EVIL: EVIL}] * 3
    (tmp_path / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    said = sweep_here(
        tmp_path, "--task.data", str(tmp_path / "data.jsonl"), script=ROOT / "sweeps/style.py", check=False
    )
    assert said.returncode == 2
    assert r"\x1b" in said.stderr
    assert not set(CODES) & set(said.stdout + said.stderr)


def test_this_installation(espalier, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{EVIL[:-1].replace(chr(13), '')}://host")
    monkeypatch.setattr("sweeps.cli.doctor.CHECKS", {"mlflow": CHECKS["mlflow"]})
    assert r"\x1b" in espalier("doctor")
    espalier("ui")


@pytest.mark.parametrize("live", [True, False])
def test_the_progress_block(live):
    said = io.StringIO()
    progress = Progress(2, 3, 0.1, said)
    for number in range(2):
        trial = FakeTrial(f"t{number}", {"optimizer": f"{EVIL}{number}"})
        progress.on_trial_start(0, [], trial)
        trial.last_result = {"training_iteration": 1, "score": 0.3 + number / 2, "loss": 1.0}
        progress.on_trial_result(0, [], trial, trial.last_result)
    if live:
        Console(file=said, force_terminal=False).print(render(progress.state))
    assert r"optimizer=x\x1b[2J" in said.getvalue().replace("\n", "")
    assert not set(CODES) & set(said.getvalue())
