"""Wrong values for every flag and argument of every script and command: a status of the policy, one line, no traceback.

The flags come from the parsers' help. So a new one is tested, too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings

from sweeps.spec.error_policy import Status
from tests.support.commands_kit import make_run
from tests.support.wrong_values import ALLOWED, LONGEST, STEPS, Place, call, make_files, outcome, places, stop, values

EXAMPLES = 2  # of each place; raise it for a hunt
BAR = "Loading weights:"  # of transformers, when a base is read for the first time


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("wrong")
    make_files(found)
    best = found / "adapter"
    best.mkdir()
    make_run(found / "runs/run", best)
    return found


def all_places() -> list[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")
        patch.setattr("sys.argv", ["espalier"])
        return list(places())


@pytest.mark.parametrize("place", all_places(), ids=str)
def test_a_wrong_value_is_one_line(place: Place, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable was read when it was imported
    monkeypatch.setattr("sys.argv", ["espalier"])
    monkeypatch.setattr("sweeps.spec.trust._allowed", set(), raising=False)
    monkeypatch.setitem(sys.modules, "sweeps.commands.evaluation.tasks", SimpleNamespace(Tasks=stop))  # imports lm-eval
    for step in STEPS:
        monkeypatch.setattr(step, stop)

    @given(values)
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    def check(value: str) -> None:
        status, said = outcome(lambda: call(place.line(value)))
        if status is None:  # the value was not wrong
            return
        assert status in ALLOWED, (value, status)
        if status == Status.BAD_INPUT:
            lines = [one for one in re.split("[\r\n]", said) if one and not one.startswith(BAR)]
            assert len(lines) == 1, said
            (line,) = lines
            assert line.startswith(f"{place.program}: "), said
            assert len(line) <= LONGEST, line

    check()
