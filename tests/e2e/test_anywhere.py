"""A sweep where much is missing and other people have set much: it runs as elsewhere, and is reproduced elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.driving import environment, mlflow_runs, study_in, sweep_here
from tests.support.surroundings import AS_NOBODY, UID, nobody_is_possible, plant_modules

ROOT = Path(__file__).parents[2]
ARC = ["--learner", "percell", "--rounds", "1", "--grace-period", "1", "--finalists", "0", "--task.limit-search", "6"]
FOLDER = 'what? 100%3F #1 [x] it\'s "a:b"\n$HOME ä'
OTHERS = {
    "COLUMNS": "abc",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "http_proxy": "http://127.0.0.1:9",  # where nobody listens
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "OMP_NUM_THREADS": "4",
    "MKL_NUM_THREADS": "3",
    "ATEN_CPU_CAPABILITY": "default",
}


@pytest.mark.skipif(not nobody_is_possible(), reason="this machine has no user namespaces (`unshare -U`)")
def test_a_sweep_in_a_place_where_everything_is_odd(tmp_path):
    folder, read = tmp_path / FOLDER, tmp_path / "read"
    long, empty = tmp_path / ("long" * 30), tmp_path / "empty"
    for one in (folder, long, empty):
        one.mkdir()
    plant_modules(folder, read)
    script = folder / "mine.py"  # beside those modules
    script.write_text(
        (ROOT / "sweeps/arc.py").read_text().replace("Path(__file__).resolve().parents[1]", repr(str(ROOT)))
    )
    clean = {name: value for name, value in environment().items() if name not in ("HOME", "USER", "LOGNAME")}
    others = OTHERS | {"PATH": str(empty), "TMPDIR": str(long)}
    done = subprocess.run(
        [*AS_NOBODY, sys.executable, str(script), *ARC, "--num-samples", "1", "--no-report"],
        cwd=folder, env=clean | others, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert not read.exists(), f"imported in place of the real ones: {read.read_text()}"
    assert done.returncode == 0, said
    assert f"HOME (user {UID} has none) is no folder that can be written to; /tmp/espalier-{UID} is used" in said
    assert "the commit of the code is unknown (there is no git here); ESPALIER_COMMIT can name it" in said
    assert "warning: MLflow" not in said
    run = folder / "runs/arc"
    assert [trial.state.name for trial in study_in(run).trials] == ["COMPLETE"]
    children, parents = mlflow_runs(folder)
    assert [status for status, _ in children.values()] == parents == ["FINISHED"]
    assert {one.name for one in tmp_path.iterdir()} == {folder.name, "empty", long.name}, "nothing lies elsewhere"
    facts, end = (yaml.safe_load((run / f"{name}.yaml").read_text()) for name in ("sweep", "end"))
    assert facts["commit"] == ""
    assert facts["variables"]["ATEN_CPU_CAPABILITY"] == "default"
    assert end["seating"]["threads"] == 1
    again = subprocess.run(
        [sys.executable, "-P", "-c", "from sweeps.cli.main import console; console()", "reproduce", str(run)],
        cwd=empty, env=environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert "the weights are bit for bit those in best/" in again.stdout, again.stdout + again.stderr


def test_a_probe_reads_no_module_of_the_folder_one_stands_in(tmp_path):
    plant_modules(tmp_path, tmp_path / "read")
    assert "probe of toy" in sweep_here(tmp_path, "--plan").stdout
    assert not (tmp_path / "read").exists()
