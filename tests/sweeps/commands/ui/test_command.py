"""What `espalier ui` says before it serves: ports, and a folder without sweeps."""

from __future__ import annotations

import socket

import pytest

from sweeps.commands.ui.command import ui
from sweeps.commands.ui.ports import free_port
from tests.support.tracking_kit import changed_environment
from trainables.bad_input import BadInput


def test_of_a_taken_port_the_next_free_one_is_used_and_said(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        found = free_port(port, "--port")
        assert found > port
        assert capsys.readouterr().out == f"port {port} is taken: {found} is used in its place\n"
        assert free_port(port, "--port", but=found) > found
    capsys.readouterr()
    assert free_port(port, "--port") == port
    assert capsys.readouterr().out == ""
    with pytest.raises(BadInput, match="--port 70000: ports are 1 to 65535"):
        free_port(70000, "--port")


def test_a_folder_without_sweeps_is_said_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        changed_environment({"MLFLOW_TRACKING_URI": ""}),
        pytest.raises(BadInput, match=f"written to {tmp_path}; go to"),
    ):
        ui()
    assert list(tmp_path.iterdir()) == []
