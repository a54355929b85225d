"""Recordings of whole curves: a killed one goes on, and what it gives is what an unbroken one gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from benchmarks.curves import read
from benchmarks.record import RECORDINGS, Part, Recording, configurations, record
from search_spaces import percell
from sweeps.spec.sweep import Sweep
from tests.support.arc_files import ids, recolour, write
from tests.support.percell_kit import SHORT
from trainables.bad_input import BadInput
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.tasks.arc.task import ArcTask
from trainables.tasks.arena.task import ArenaTask

ROOT = Path(__file__).parents[2]
ROUNDS, QUESTIONS = 3, 20
TASK = ArenaTask(train_size=64, search_size=QUESTIONS, test_size=30, kinds=("comparison", "math"))
PAIR = Pair(LoraConfig(steps_per_round=4), TASK, "builtin:tiny")
SMALL = replace(RECORDINGS["arena"].sweep, pairs=(PAIR,), rounds=ROUNDS)
RECORDING = Recording(SMALL, configurations=2, minutes=1)

KILLS_ITSELF = """
import os, signal, sys
from pathlib import Path
from benchmarks import record
from tests.e2e.test_record import RECORDING
write, folder = record.Part.write, Path(sys.argv[1])

def write_and_die(part, file):
    write(part, file)
    if part.rounds == 2:
        os.kill(os.getpid(), signal.SIGKILL)

record.begin(RECORDING, folder)
record.Part.write = write_and_die
record.record_some(RECORDING, [0, 1], folder, 0)
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    assert record(RECORDING, folder / "parts", folder / "small.parquet", hosts=2) == 0
    return folder / "small.parquet"


def test_a_recording_is_read_as_curves(unbroken):
    curves, table = read(unbroken, 250, "rows"), pyarrow.parquet.read_table(unbroken)
    assert (len(curves), curves.rounds, curves.asked) == (2, ROUNDS, QUESTIONS)
    assert [dict(one) for one in curves.params] == configurations(RECORDING)
    assert curves.answers.shape == (2, ROUNDS, QUESTIONS)
    assert set(np.unique(curves.answers)) <= {0.0, 1.0}
    batches = np.array([one["per_device_train_batch_size"] for one in curves.params])
    assert curves.cost.tolist() == [[4 * batch + QUESTIONS] * ROUNDS for batch in batches], "rows trained and asked"
    assert (read(unbroken, 250, "seconds").cost > 0).all()
    test = np.array(table["test"].to_pylist()).mean(1)
    assert curves.true[:, -1] == pytest.approx(test), "judged by the test questions"
    likelihoods = np.array(table["log_likelihoods"].to_pylist()).reshape(2, ROUNDS, QUESTIONS)
    assert (likelihoods < 0).all()
    right = curves.answers.astype(bool)
    assert likelihoods[right].mean() > likelihoods[~right].mean(), "right answers were likelier"


def test_a_killed_recording_goes_on_to_the_same_numbers(unbroken, tmp_path):
    """Killed in the middle of a round's writing: configuration 0 has two rounds, configuration 1 only one."""
    parts = tmp_path / "parts"
    where = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLS_ITSELF, str(parts)], env=where, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [Part.read(parts / f"0000{number}.part").rounds for number in (0, 1)] == [2, 1]
    assert record(RECORDING, parts, tmp_path / "small.parquet", hosts=1) == 0
    broken, whole = (pyarrow.parquet.read_table(file) for file in (tmp_path / "small.parquet", unbroken))
    for name in ("params", "answers", "log_likelihoods", "rows", "test"):
        assert broken[name].to_pylist() == whole[name].to_pylist(), name
    assert broken.schema.metadata == whole.schema.metadata
    longer = Recording(replace(SMALL, rounds=ROUNDS + 1), configurations=2, minutes=1)
    with pytest.raises(BadInput, match=r"was begun with other settings \(rounds\)"):
        record(longer, parts, tmp_path / "small.parquet", hosts=1)


def test_a_learner_without_a_base_is_recorded_too(tmp_path):
    data = write(tmp_path, dict.fromkeys([*ids("search", 2), *ids("train", 1), *ids("test", 1)], recolour()))
    space = percell.SPACE.fix(recurrent_steps=4, seeds=1)
    sweep = Sweep("arc", (Pair(SHORT, ArcTask(data=data)),), space, rounds=1)
    assert record(Recording(sweep, 2, 1), tmp_path / "parts", tmp_path / "arc.parquet", hosts=1) == 0
    curves, table = read(tmp_path / "arc.parquet", 250, "rows"), pyarrow.parquet.read_table(tmp_path / "arc.parquet")
    assert curves.answers.shape == (2, 1, 2)
    assert table["log_likelihoods"].to_pylist() == [[], []]
    facts = json.loads(table.schema.metadata[b"espalier-curves-1"])
    assert (facts["learner"], facts["rounds"]) == ("percell", 1)
