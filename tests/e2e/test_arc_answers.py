"""Answers that `arc_all.py` keeps are compared by `arc_sources.py`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import arc_sources
from benchmarks.arc_all import ALL, Options, main
from tests.support.arc_files import recolour, write_all_splits
from trainables.tasks.arc.programs.search import Limits


def test_kept_answers_of_all_splits_are_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of two views is kept. Programs explain every task."""
    data, kept = write_all_splits(tmp_path / "tasks", recolour()), tmp_path / "programs.json"
    main(Options("programs", Limits(grids=4000), replace(ALL, data=data), view=(0, 1), processes=1, keep=kept))
    capsys.readouterr()
    assert all("[[" in text for text in json.loads(kept.read_text()).values())
    monkeypatch.setattr(sys, "argv", ["arc_sources.py", str(kept), "--data", data])
    arc_sources.main()
    table = capsys.readouterr().out
    for split in ("search", "train", "test"):
        assert f"| {split}, 1 tasks | solved | by no other | not by programs |" in table
    assert table.count("| programs | 1/1 = 100.0%") == 3
