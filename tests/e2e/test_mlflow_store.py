"""The server of MLflow's pages, a process that ends with the command that started it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.driving import wait_for


def test_the_page_s_server_ends_with_the_command(tmp_path):
    """A real `espalier ui`, ended as `kill` ends it: nothing keeps the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from sweeps.tracking.mlflow_store import serve_ui; serve_ui({port})"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}  # as a cluster's head, before any sweep
    page = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers)
    page.terminate()
    assert page.wait(60) == 0
    wait_for(lambda: not answers())
