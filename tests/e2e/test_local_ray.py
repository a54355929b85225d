"""Ray of a local sweep: who can reach it, over the network and on this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from tests.support.driving import rays_of, start


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


def closed(folder: Path) -> bool:
    """Return whether no other user can look into a folder of this user."""
    found = folder.stat()
    return found.st_uid == os.getuid() and found.st_mode & 0o077 == 0
