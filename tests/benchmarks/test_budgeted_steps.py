"""Steps of a benchmark within a budget: what fits is measured, everything has a row, and files are always whole."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks.budgeted_steps import Results, Rows, Step, run_steps
from benchmarks.on_gpu import STEPS, parsed, table


def outcomes(steps: list[Step], folder: Path, seconds: float) -> dict[str, tuple[str, str]]:
    """Run the steps, and read the outcome and the note of each from the file."""
    run_steps(steps, Results(folder, {"machine": {"torch": "x"}}, table), seconds)
    written = json.loads((folder / "measurements.json").read_text())
    assert written["machine"] == {"torch": "x"}
    return {row["step"]: (row["outcome"], row["note"]) for row in written["measurements"]}


def raised(error: Exception) -> dict[str, float]:
    raise error


def test_an_error_ends_its_step_alone(tmp_path):
    found = outcomes(
        [
            Step("64 seats", "seats", lambda: raised(torch.OutOfMemoryError("CUDA out of memory. Tried to"))),
            Step("8 processes", "processes", lambda: raised(RuntimeError("process 3 of 8: CUDA out of memory"))),
            Step("a", "decoding", lambda: raised(KeyError("b | c"))),
            Step("b", "seats", dict),
        ],
        tmp_path,
        60,
    )
    assert found["64 seats"] == ("out of memory", "OutOfMemoryError: CUDA out of memory. Tried to")
    assert found["8 processes"][0] == "out of memory"
    assert found["a"] == ("failed", "KeyError: 'b | c'")
    assert found["b"] == ("measured", "")
    assert {line.count("|") for line in (tmp_path / "table.md").read_text().splitlines()} == {10}


def test_what_does_not_fit_is_skipped(tmp_path, monkeypatch):
    now = [100.0]  # seconds of a clock that only steps advance
    monkeypatch.setattr("benchmarks.budgeted_steps.time.monotonic", lambda: now[0])

    def takes(seconds: float) -> dict[str, float]:
        now[0] += seconds
        return {"seconds_per_trial": seconds}

    found = outcomes(
        [
            Step("16 seats", "seats", lambda: takes(40)),
            Step("4 processes", "processes", lambda: takes(35)),
            Step("32 seats", "seats", lambda: takes(1)),
            Step("1 seats, decoding", "decoding", lambda: takes(25)),
            Step("2 processes", "processes", lambda: takes(1)),
        ],
        tmp_path,
        100,
    )
    assert [outcome for outcome, _ in found.values()] == ["measured", "measured", "skipped", "measured", "skipped"]
    assert found["32 seats"][1] == "25 s are left; the last step of its kind took 40 s"
    assert found["2 processes"][1] == "0 s are left; the last step of its kind took 35 s"


def test_what_takes_too_long_is_interrupted(tmp_path):
    def swallows() -> dict[str, float]:
        """Work whose errors a library handles."""
        while True:
            try:
                time.sleep(5)
            except Exception:
                continue

    steps = [Step("too long", "processes", swallows), Step("none left", "decoding", dict)]
    assert [outcome for outcome, _ in outcomes(steps, tmp_path, 0.2).values()] == ["out of time", "skipped"]


def test_a_row_that_is_not_written_whole_leaves_the_last_files(tmp_path):
    def full(rows: Rows) -> str:
        return table(rows) if len(rows) == 1 else str(raised(OSError("no space left")))

    results = Results(tmp_path, {}, full)
    results.add({"step": "a", "outcome": "measured", "note": "", "seconds_per_trial": 1.0})
    before = (tmp_path / "table.md").read_text()
    with pytest.raises(OSError, match="no space left"):
        results.add({"step": "b", "outcome": "measured", "note": ""})
    assert (tmp_path / "table.md").read_text() == before
    assert json.loads((tmp_path / "measurements.json").read_text())["measurements"][0]["step"] == "a"


def test_ratios_by_hand():
    steps = {"sequential": 6.0, "16 seats": 1.5, "4 processes, MPS": 3.0, "2 processes, MPS": 4.0}
    rows = [{"step": name, "outcome": "measured", "note": "", "seconds_per_trial": s} for name, s in steps.items()]
    cells = [[cell.strip() for cell in line.split("|")[1:5]] for line in table(rows).splitlines()[2:]]
    assert cells == [
        ["sequential", "6.000", "1.00 x", "0.50 x"],
        ["16 seats", "1.500", "4.00 x", "2.00 x"],
        ["4 processes, MPS", "3.000", "2.00 x", "1.00 x"],
        ["2 processes, MPS", "4.000", "1.50 x", "0.75 x"],
    ]


@pytest.mark.parametrize("step", ["seats", "seats:0", "sequential:2", "compiled:", "processes:many", "table"])
def test_an_unknown_step_is_refused(step):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{step}' is no step; steps are sequential, seats:16"):
        parsed(step)


def test_every_default_step_is_one():
    assert [parsed(step) for step in STEPS][:3] == [("sequential", 0), ("seats", 16), ("seats", 32)]
