"""The table of what each source of ARC answers adds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.arc_all import share_of
from benchmarks.arc_sources import main
from tests.support.arc_files import ids, recolour, write


def test_it_counts_what_no_other_solves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four tasks of the search split, of which one source was asked three: a solves the first two, b the second."""
    keys = ids("search", 4)
    content = dict.fromkeys((*keys, *ids("train", 1), *ids("test", 1)), recolour())
    data = write(tmp_path / "tasks", content)
    right = {key: json.dumps([{"attempt_1": content[key]["test"][0]["output"], "attempt_2": [[0]]}]) for key in keys}
    wrong = json.dumps([{"attempt_1": [[0]], "attempt_2": [[0]]}])
    files = [tmp_path / "a.json", tmp_path / "b" / "answers.json"]
    files[1].parent.mkdir()
    files[0].write_text(json.dumps({key: right[key] if key in keys[:2] else wrong for key in keys}))
    files[1].write_text(json.dumps({key: right[key] if key == keys[1] else wrong for key in keys[:3]}))
    monkeypatch.setattr(sys, "argv", ["arc_sources.py", *map(str, files), "--data", data])
    main()
    table = capsys.readouterr().out.splitlines()
    assert table == [
        "| search, 3 tasks | solved | by no other | not by a | not by b |",
        "|---|---|---:|---:|---:|",
        f"| a | {share_of([1, 1, 0])} | 1 |  | 1 |",
        f"| b | {share_of([1, 0, 0])} | 0 | 0 |  |",
        f"| at least one | {share_of([1, 1, 0])} | |  |  |",
        "train: no task was asked of all sources",
        "test: no task was asked of all sources",
    ]


def test_two_files_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["arc_sources.py", *[str(tmp_path / "a.json")] * 2])
    with pytest.raises(SystemExit, match="2 files have 1 names, a; name each after its source"):
        main()
