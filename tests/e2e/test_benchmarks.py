"""Benchmarks still run, and compare what they say they compare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.driving import script_here

ROOT = Path(__file__).parents[2]


def run(script: str, *flags: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_plain_trials_and_packed_ones_reach_the_same_scores():
    """Plain Ray Tune + PEFT beside our own hosts: else their times would not compare."""
    given = {"workload": "arena", "rounds": 5, "width": 2, "hosts": 1, "count": 3}
    plain, packed = (
        json.loads(run("packing.py", "--one", json.dumps(given | {"way": way})).splitlines()[-1])["score"]
        for way in ("plain", "packed")
    )
    assert packed > 0.3
    assert plain == pytest.approx(packed, abs=0.05)  # of 90 answers, those that last bits may turn


def test_decoding_in_blocks_is_held_against_a_copy_for_every_row():
    rows = [line.split("|")[1:-1] for line in run("decoding.py", "--base", "builtin:tiny").splitlines()]
    assert len(rows) == 4, "a head, and two lines"
    *_, by_row, by_block, ratio = (cell.strip(" x") for cell in rows[-1])
    assert float(by_row) / float(by_block) == pytest.approx(float(ratio), rel=0.05)


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["adaptation.py", "--help"], 0, "an arena sweep's folder"),
        (["winners.py", "--help"], 0, "How often does a sweep's winner deserve its name?"),
        (["shared_prefix.py", "--help"], 0, "once for all rows of a batch"),
        (["grpo.py", "--help"], 0, "completions per"),
        (["plan.py", "--help"], 0, "`ratio` is estimate / real"),
        (["search.py", "--help"], 0, "What is a searcher worth?"),
        (["search.py", "--curves", "nowhere"], 2, "nowhere has no recorded curves (*.parquet)"),
        (["record.py"], 0, "256 configurations of 8 rounds"),
        (["record.py", "poems"], 2, "invalid choice: 'poems'"),
        (["adaptation.py", "nowhere"], 2, "nowhere is not a sweep's folder"),
        (["adaptation.py", "--seeds"], 2, "--seeds"),
    ],
)
def test_a_benchmark_explains_itself_before_it_works(tmp_path, command, code, told):
    script, *flags = command
    done = script_here(tmp_path, ROOT / "benchmarks" / script, *flags, check=False)
    assert done.returncode == code, done.stderr
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_round_of_grpo_takes_at_most_twice_the_memory_of_lora_on_its_rows():
    table = run("round_memory.py", "--way", "grpo, beta 0.04").splitlines()
    (_, rewarded) = ([float(cell) for cell in line.split("|")[2:-1]] for line in table[2:])
    own, ratio, _, ratio_in_all = rewarded
    assert own > 10, "MiB: more than nothing was measured"
    assert ratio < 2
    assert ratio_in_all < 2
