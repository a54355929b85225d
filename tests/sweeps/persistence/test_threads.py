"""Threads that work beside a sweep: what goes wrong once ends none of them, or a sweep would go on without."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.persistence import mirror
from sweeps.persistence.mirror import Mirror
from sweeps.resources.cost_limit import CostLimit
from sweeps.results.run_folder import SWEEP_FILE
from sweeps.tracking.event_queue import EventQueue

LIMIT_S = 20.0  # for what takes tenths


def comes_true(what: Callable[[], bool]) -> bool:
    end = time.monotonic() + LIMIT_S
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return what()


def test_events_arrive_although_nobody_can_be_told_of_a_failure(tmp_path):
    """Standard error is a pipe without a reader, and MLflow is away for a moment."""
    arrived = []

    def deliver(events):
        if not arrived:
            arrived.append("refused")
            raise ConnectionError("away")
        arrived.extend(event["n"] for event in events)

    def trouble(error):
        raise BrokenPipeError("nobody reads this")

    events = EventQueue(tmp_path, "receiver", deliver, trouble)
    events.append({"n": 1})
    assert comes_true(lambda: arrived == ["refused", 1])
    assert events.close(LIMIT_S)


@pytest.fixture
def sweep_folder(tmp_path):
    folder = tmp_path / "here/toy"
    folder.mkdir(parents=True)
    (folder / SWEEP_FILE).write_text("name: toy")
    return folder


def test_a_mirror_follows_on_after_a_file_that_it_cannot_take(sweep_folder, tmp_path, monkeypatch, capsys):
    """A name that is not UTF-8 is none that pyarrow knows, and an error of no kind that a file system has."""
    monkeypatch.setattr(mirror, "EVERY_S", 0.05)
    there, odd = tmp_path / "there/toy", Path(os.fsdecode(os.fsencode(sweep_folder) + b"/\xff"))
    said = []
    with Mirror(f"file://{tmp_path}/there", sweep_folder).following():
        odd.touch()
        assert comes_true(lambda: said.append(capsys.readouterr().err) or "trying again" in "".join(said))
        odd.unlink()
        (sweep_folder / "next").write_text("1")
        assert comes_true((there / "next").exists), "not only when the sweep has ended"
    assert "".join(said).count("warning") == 1


def test_a_mirror_that_is_behind_at_the_end_says_so(sweep_folder, tmp_path, monkeypatch, capsys):
    """It warns also if it has warned before, because there is no further retry."""
    monkeypatch.setattr(mirror, "EVERY_S", 0.05)
    there, said = tmp_path / "there", []
    with Mirror(f"file://{there}", sweep_folder).following():
        (there / "toy").rename(tmp_path / "away")
        (there / "toy").touch()
        (sweep_folder / "next").write_text("1")
        assert comes_true(lambda: said.append(capsys.readouterr().err) or "trying again" in "".join(said))
    assert f"it lacks what {sweep_folder} has" in capsys.readouterr().err


def test_prices_are_asked_for_although_a_disk_was_full(tmp_path, caplog):
    """What was spent could not be written once: the price of the machines is still looked at, or a limit is none."""
    prices = [1.0]
    costs = CostLimit(lambda: prices[0], limit=None, every_s=0.02)
    missing = tmp_path / "gone"
    with caplog.at_level(logging.WARNING):
        costs.keep_in(missing / "dollars.txt")
        assert comes_true(lambda: "cannot be written" in caplog.text)
    assert costs.may_start(), "Tune asks in the middle of a search"
    missing.mkdir()
    prices[0] = 3600.0
    assert comes_true(lambda: costs.dollars > 0.1)
    costs.close()
    shutil.rmtree(missing)
    costs.close()  # at the very end, too


def test_a_limit_holds_although_nothing_can_be_written(tmp_path):
    costs = CostLimit(lambda: 3600.0, limit=0.05, every_s=0.02)
    costs.keep_in(tmp_path / "gone" / "dollars.txt")
    assert comes_true(lambda: costs.may_start() is False)
    costs.close()
