"""`espalier doctor`: what is said of a machine where something is missing or wrong."""

from __future__ import annotations

import io
import os
import socket
from importlib.metadata import version
from pathlib import Path

import pytest

from sweeps.cli import doctor
from sweeps.cli.doctor import CHECKS, CheckResult, disk, examine, judge, machine, packages, python, versions
from sweeps.persistence.number_variables import OF_THREADS
from sweeps.persistence.secret_key import secret_key
from sweeps.resources.home import private_folder
from tests.support import gguf_kit
from trainables.models.loading import check_base


def line(finding: CheckResult, state: str, *words: str) -> None:
    """The finding has this state, and its line all of these words."""
    assert finding.state == state, finding
    assert all(word in str(finding) for word in words), finding


def test_anything_wrong_is_exit_status_1(tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "CHECKS", {name: CHECKS[name] for name in ("python", "disk", "statistics")})
    with pytest.raises(SystemExit) as end:
        doctor.doctor()
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert [text.split()[0] for text in said.splitlines()] == ["ok", "wrong", "ok", "3"]
    assert f"cannot write to {tmp_path}/runs (Not a directory); make room" in said


def test_python_and_packages():
    line(python("3.10.4"), "wrong", "3.10.4 ", ">=3.11", "make test PYTHON=")
    line(packages(["no-such-thing[x]>=2", "numpy>=2"]), "wrong", "no-such-thing is missing", "-m pip install 'no-such-")
    numpy = version("numpy")
    line(packages(["NumPy>=99"]), "wrong", f"NumPy {numpy} is not >=99", "-m pip install 'NumPy>=99'")
    line(packages(["no-such-thing>=2; extra == 'dev'", "numpy>=2"]), "ok")


def test_versions_that_were_not_tested_together(tmp_path):
    file = tmp_path / "constraints.txt"
    line(versions(file), "ok", "no constraints.txt here")
    file.write_text(f"# tested\nnumpy==1.0\nrich=={version('rich')}  # as here\nno-such-thing==1\n")
    found = versions(file)
    line(found, "warn", f"numpy {version('numpy')} (tested with ==1.0)", f"-c {file}")
    assert "rich" not in found.what
    assert "no-such-thing" not in found.what
    file.write_text(f"rich=={version('rich')}\n")
    line(versions(file), "ok", "tested together")


@pytest.mark.parametrize(("lists", "state", "words"), [
    ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'", "wrong", ["GPU 0: NVIDIA H200, which", "CPUs only", "pip install"]),
    ("echo 'Failed to initialize NVML'; exit 18", "warn", ["(Failed to initialize NVML)", "see to the driver"]),
])  # fmt: skip
def test_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch, lists, state, words):
    import torch

    if torch.version.cuda is not None:
        pytest.skip("needs a torch that was built for CPUs only")
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{lists}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    line(judge("gpu"), state, *words)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    line(judge("gpu"), "warn")


def test_no_ray_cluster_at_the_address(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    line(judge("ray"), "wrong", "no Ray cluster answers at '127.0.0.1:1'", "unset RAY_ADDRESS")


def test_mlflow_stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    line(judge("mlflow"), "wrong", "http://127.0.0.1:9: ", "refused", "unset MLFLOW_TRACKING_URI")
    assert "secret" not in str(judge("mlflow"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    line(judge("mlflow"), "wrong", "keeps no runs in folders")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    line(judge("mlflow"), "ok", f"the first sweep makes {tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").write_text("no database at all, but long enough to be read as the header of one" * 9)
    line(judge("mlflow"), "wrong", "not a database")


def test_disk_and_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line(disk(0, 0), "ok", f"GB free in {tmp_path}")
    line(disk(1e9, 0), "warn", "make room")
    line(disk(1e9, 1e9), "wrong", "make room")
    monkeypatch.chdir("/proc")
    line(judge("disk"), "wrong", "cannot write to /proc", "another --storage-path")
    line(machine(0, tmp_path), "ok", f"{len(os.sched_getaffinity(0))} cores")
    line(machine(1e9, tmp_path), "warn", "end other programs")
    line(machine(0, Path("/proc")), "warn", "0.0 GB in /proc", "--shm-size")


def test_the_hub_and_usage_statistics(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    hub, statistics = examine(["hub", "statistics"])
    line(hub, "wrong", f"cannot write to {tmp_path}/file (Not a directory)", "set HF_HOME")
    line(statistics, "warn", "RAY_USAGE_STATS_ENABLED=1", "unset that")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line(next(examine(["hub"])), "ok", f"{tmp_path}/hub", "offline")


def test_the_cache_is_listed_with_the_command_that_clears_it(tmp_path, monkeypatch, own_cache):
    folder = os.environ["XDG_CACHE_HOME"] + "/espalier"
    line(judge("cache"), "ok", f"{folder}: nothing is kept yet")
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    check_base(str(path))
    size = sum(file.stat().st_size for file in next(Path(folder).glob("gguf/*-v1")).iterdir())
    line(judge("cache"), "ok", f"{folder}: mini.gguf {size / 1e6:,.0f} MB; to clear it: rm -r {folder}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    line(judge("cache"), "wrong", f"cannot write to {path}", "set XDG_CACHE_HOME")


def test_the_configuration_folder_is_the_user_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "espalier"
    line(judge("configuration"), "ok", f"{folder}: nothing is kept yet")
    secret_key("snapshot.key")
    line(judge("configuration"), "ok", f"{folder}: snapshot.key")
    (folder / "snapshot.key").chmod(0o644)
    line(judge("configuration"), "warn", f"other users can read or change {folder / 'snapshot.key'}", "600 its files")
    folder.chmod(0o777)
    line(judge("configuration"), "warn", f"other users can read or change {folder}", "chmod 700 the folder")


def test_a_check_that_hangs_or_crashes_takes_no_other_with_it(tmp_path, monkeypatch):
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    (tmp_path / "huggingface_hub.py").write_text(crash)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)  # other folders come last
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        found = list(examine(["hub", "mlflow", "python"], limit_s=2))
    line(found[0], "wrong", "Python itself crashed", "set HF_HOME")
    line(found[1], "wrong", "no answer within 2 s", "start that server")
    line(found[2], "ok")


def test_a_home_that_was_replaced(monkeypatch):
    line(judge("home"), "ok", str(Path.home()))
    monkeypatch.setenv("HOME", str(private_folder() / "home"))
    line(judge("home"), "warn", "HOME cannot be written to", f"{private_folder()} is used", "set HOME to a folder")


def test_no_git(tmp_path, monkeypatch):
    monkeypatch.delenv("ESPALIER_COMMIT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    line(judge("git"), "warn", "unknown (there is no git here)", "install git")


def test_modules_that_hide_others(tmp_path, monkeypatch):
    line(judge("modules"), "ok")
    (tmp_path / "statistics.py").touch()
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft/__init__.py").touch()
    (tmp_path / "my_own.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    line(judge("modules"), "warn", f"{tmp_path}/statistics.py, {tmp_path}/peft: imported in place", "rename it")


def test_what_others_set_about_numbers(monkeypatch):
    for name in ("ATEN_CPU_CAPABILITY", *OF_THREADS):
        monkeypatch.delenv(name, raising=False)
    line(judge("variables"), "ok", "none changes")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    line(judge("variables"), "ok", "ATEN_CPU_CAPABILITY=default: changes last bits", "OMP_NUM_THREADS: not used")


def test_a_terminal_with_few_characters(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    line(judge("terminal"), "warn", "printed in ascii", "LC_ALL=C.UTF-8")
