"""Ray of a local sweep: who can reach it, over the network and on this machine; and where it writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import ray

from tests.support.driving import SCRIPT, environment, rays_of, start


def test_a_local_sweep_is_reached_by_no_other_machine_and_no_other_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    driver, *_ = start(tmp_path, rounds=2)
    try:
        processes = [psutil.Process(int(pid)) for pid in rays_of(driver.pid)]
        assert "raylet" in [process.name() for process in processes]
        listening = {
            (process.name(), connection.laddr.ip.removeprefix("::ffff:"))
            for process in processes
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert len(listening) > 3, "its servers, its workers and the driver listen"
        assert [one for one in listening if one[1] not in ("127.0.0.1", "::1")] == []
        (raylet,) = (process for process in processes if process.name() == "raylet")
        (session,) = {word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--session_dir=")}
        assert any(closed(folder) for folder in Path(session).parents), session
        assert closed(tmp_path / ".ray"), "it has the token"
    finally:
        driver.send_signal(signal.SIGINT)
        driver.wait(timeout=120)


def test_a_cluster_of_another_version_says_so(ray_session):
    """A process that holds its Ray to be older joins the Ray that runs here."""
    address = ray.get_runtime_context().gcs_address
    code = "import ray; ray.__version__ = '2.1.0'\nfrom sweeps.resources.ray_cluster import cluster\n"
    code += f"with cluster({address!r}, verbose=False): pass"
    where = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=where, capture_output=True, text=True, timeout=300)
    said = done.stderr.rstrip().splitlines()[-1]
    assert f"the Ray cluster at {address} has another version (" in said
    assert "Ray: 2.1.0" in said
    assert said.endswith("install the same versions here and there, or drop --address")


def closed(folder: Path) -> bool:
    """Return whether no other user can look into a folder of this user."""
    found = folder.stat()
    return found.st_uid == os.getuid() and found.st_mode & 0o077 == 0


def test_a_folder_that_ray_cannot_write_to_is_named_with_its_remedy(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--no-report"],
        cwd=tmp_path,
        env=environment() | {"RAY_TMPDIR": "/proc/nowhere"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith(
        "'/proc/nowhere'); it needs a folder with a short path to write to, which RAY_TMPDIR names, else /tmp\n"
    )
    assert done.stderr.count("\n") == 1
