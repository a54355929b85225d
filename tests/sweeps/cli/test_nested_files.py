"""Brackets within brackets, deeper than Python nests, in every file and value that a command reads: one line says
which it is."""

from __future__ import annotations

import sys

import pytest

from sweeps.cli.main import console
from sweeps.spec.checkout import ROOT
from tests.support.driving import sweep_here
from tests.support.report_kit import confirmed

DEEP = "[" * 200_000
DEEP_YAML = "[" * 1000  # which Python's own parser reads slowly, and nests as little


@pytest.mark.parametrize(
    ("script", "flag", "name"),
    [
        ("style", "--task.data", "deep.json"),
        ("style", "--task.data", "deep.jsonl"),
        ("arc", "--task.data", "deep.json"),
        ("strategyqa", "--task.data", "deep.json"),
        ("strategyqa", "--task.rationales", "deep.json"),
    ],
)
def test_a_data_file(tmp_path, script, flag, name):
    (tmp_path / name).write_text(DEEP)
    refused = sweep_here(tmp_path, flag, str(tmp_path / name), script=ROOT / f"sweeps/{script}.py", check=False)
    assert refused.returncode == 2
    assert name in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_value_on_the_command_line(tmp_path):
    refused = sweep_here(tmp_path, "--set", f"log={DEEP}", check=False)
    assert refused.returncode == 2
    assert "is no value of an axis" in refused.stderr


@pytest.mark.parametrize("name", ["sweep.yaml", "end.yaml"])
@pytest.mark.parametrize("text", [DEEP_YAML, "a: [", "\x00"])
def test_a_run_folder(tmp_path, monkeypatch, capsys, name, text):
    run = confirmed(tmp_path / "run")
    (run / name).write_text(text)
    for command in ("status", "report", "judge"):
        monkeypatch.setattr(sys, "argv", ["espalier", command, str(run)])
        with pytest.raises(SystemExit):
            console()
        said = capsys.readouterr().err
        assert f"{name}" in said
        assert said.count("\n") == 1


def test_rationales_that_are_there(tmp_path, monkeypatch, capsys):
    (tmp_path / "r.jsonl").write_text(DEEP)
    monkeypatch.setattr(sys, "argv", ["espalier", "rationales", str(tmp_path / "r.jsonl"), "--base", "builtin:tiny"])
    with pytest.raises(SystemExit):
        console()
    assert "r.jsonl holds rationales of another kind; give a new file" in capsys.readouterr().err
