"""`run` from Python: its keywords are the flags of a script, and what cannot be used is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.cli.main import run
from sweeps.cli.flags import as_words, parse
from tests.support.toy_sweep import SWEEP
from trainables.bad_input import BadInput


def test_keywords_are_what_the_flags_of_a_script_are():
    given = {"num_samples": 3, "set": ["planted=nothing", "quality=0.5"], "all_trials": True, "report": False}
    given |= {"storage_path": Path("elsewhere"), "name": "x", "seats": "auto", "budget": None}
    words = as_words(given)
    assert words == [
        *("--num-samples", "3", "--set", "planted=nothing", "quality=0.5", "--all-trials", "--no-report"),
        *("--storage-path", "elsewhere", "--name", "x", "--seats", "auto"),
    ]
    flags, sweep = parse(SWEEP, words)
    assert (sweep.num_samples, sweep.all_trials, flags.report, flags.name) == (3, True, False, "x")
    assert (sweep.pairs[0].learner.planted, sweep.pairs[0].learner.quality) == ("nothing", 0.5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"num_sample": 3}, "num-sample"),
        ({"num_samples": 0}, "num_samples"),
        ({"plan": True}, "leaves no result in this process"),
        ({"cluster": "cluster.yaml"}, "leaves no result in this process"),
        ({"set": []}, "--set"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_starts(tmp_path, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=said):
        run(SWEEP, **flags)
    assert not list(tmp_path.iterdir())
