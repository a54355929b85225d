"""A sweep whose bases a fast CPU has put into bfloat16, taken to a slow one: resumed, reproduced, exported."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from sweeps.commands.export import ExportOptions, export
from sweeps.commands.reproduce import reproduce
from sweeps.resources import base_dtype
from sweeps.results.run_folder import Run
from tests.support.driving import environment, sweep_here
from trainables.models import cpu_dtype

ARENA = Path(__file__).parents[2] / "sweeps/arena.py"
FLAGS = ["--learner", "lora", "--num-samples", "1", "--rounds", "1", "--grace-period", "1", "--set",
         "steps_per_round=3", "--task.train-size", "40", "--task.search-size", "30", "--task.test-size",
         "30"]  # fmt: skip
TWO_MACHINES = """
from ray.cluster_utils import Cluster
from sweeps.resources.ray_cluster import bfloat16_speedups, cluster
machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
machines.add_node(num_cpus=1, env_vars={"ONEDNN_MAX_CPU_ISA": "AVX2"})
with cluster(machines.address, verbose=False) as capacity:
    print(capacity.nodes, *bfloat16_speedups())
machines.shutdown()
"""
TYPED, CHOSEN = "builtin:tiny", "builtin:tiny:bfloat16"


@pytest.fixture(scope="module")
def begun(tmp_path_factory, ray_session):
    """The sweep on the fast machine, without its finalists: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("dtype")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_dtype, "MEASURED_PARAMETERS", 1_000)
        patch.setattr(cpu_dtype, "bfloat16_speedup", lambda: 4.0)
        done = sweep_here(folder, *FLAGS, "--finalists", "0", script=ARENA)
    return folder, done.stdout


@pytest.fixture(scope="module")
def resumed(begun):
    """It goes on, with finalists, where bfloat16 is slow."""
    folder, _ = begun
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_dtype, "MEASURED_PARAMETERS", 1_000)
        patch.setattr(cpu_dtype, "bfloat16_speedup", lambda: 0.2)
        done = sweep_here(folder, *FLAGS, "--finalists", "1", "--resume", script=ARENA)
    return folder / "runs/arena", done.stdout


def test_the_choice_is_said_and_recorded_beside_what_was_typed(begun):
    folder, out = begun
    facts = Run.read(folder / "runs/arena").facts
    assert facts["dtypes"] == {TYPED: {"dtype": "bfloat16", "speedup": 4.0}}
    assert [pair["base"] for pair in facts["sweep"]["pairs"]] == [CHOSEN]
    assert f"{TYPED} in bfloat16: bfloat16 is 4 times as fast as float32" in out


def test_a_slower_machine_goes_on_in_bfloat16(resumed):
    folder, out = resumed
    assert "in float32" not in out
    assert Run.read(folder).facts["sweep"]["pairs"][0]["base"] == CHOSEN
    assert Run.read(folder).finals, "its finalists were trained"


def test_what_was_trained_is_trained_again_to_the_last_bit_and_is_not_float32s(resumed, tmp_path, capsys):
    folder, _ = resumed
    reproduce(folder)
    assert "every answer scored the same; the weights are bit for bit those in best/" in capsys.readouterr().out
    other = shutil.copytree(folder, tmp_path / "float32")
    facts = yaml.safe_load((other / "sweep.yaml").read_text())
    facts["sweep"]["pairs"][0]["base"] = TYPED
    (other / "sweep.yaml").write_text(yaml.safe_dump(facts))
    reproduce(other)
    assert "the weights differ from best/" in capsys.readouterr().out


def test_adapters_are_float32_and_a_merged_model_is_bfloat16(resumed, tmp_path):
    folder, _ = resumed
    for name, merge, dtype in (("adapter", False, torch.float32), ("merged", True, torch.bfloat16)):
        export(folder, ExportOptions(to=tmp_path / name, merge=merge))
        (weights,) = (tmp_path / name).glob("*.safetensors")
        with safe_open(weights, "pt") as file:
            assert {file.get_tensor(key).dtype for key in file.keys()} == {dtype}  # noqa: SIM118
    assert re.search("dtype=.bfloat16.", (tmp_path / "adapter/README.md").read_text())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 is a set of instructions of x86")
def test_every_machine_of_a_cluster_is_measured():
    """The second has an older processor's instructions, whatever this machine has."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_MACHINES], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    nodes, *speedups = done.stdout.split()
    assert (nodes, len(speedups)) == ("2", 2)
    assert min(map(float, speedups)) < cpu_dtype.FASTER
