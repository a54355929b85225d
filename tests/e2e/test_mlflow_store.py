"""The server of MLflow's pages, a process that ends with the command that started it."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from pathlib import Path

from sweeps.spec.error_policy import Status
from tests.support.driving import wait_for
from tests.support.ports import answers, free_port


def status(port: int, host: str) -> int:
    """The status of the server's answer to a request that a browser makes for this host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/ajax-api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host})
    return connection.getresponse().status


def test_the_page_answers_this_machine_s_names_alone_and_no_process_list_has_the_store_s_address(tmp_path):
    """A site whose name looks like a private address, and then leads to this machine, reads nothing."""
    port, store = free_port(), f"sqlite:///{tmp_path}/planted-secret.db"
    command = [sys.executable, "-c", "from sweeps.cli.main import console; console()", "ui", "--mlflow-port", f"{port}"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "MLFLOW_TRACKING_URI": store}
    page = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    try:
        wait_for(lambda: answers(port))
        assert status(port, f"localhost:{port}") == status(port, f"127.0.0.1:{port}") == 200
        for other in ("10.evil.example:5000", "192.168.evil.example", "172.16.evil.example", "evil.example"):
            assert status(port, other) == 403, other
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True).stdout
        assert f"mlflow server --host 127.0.0.1 --port {port}" in listed
        assert "planted-secret" not in listed
    finally:
        page.terminate()
        page.wait(60)


def test_the_page_s_server_ends_with_the_command(tmp_path):
    """A real `espalier ui`, ended as `kill` ends it: nothing keeps the port."""
    port = free_port()
    command = [sys.executable, "-c", "from sweeps.cli.main import console; console()", "ui", "--mlflow-port", f"{port}"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}  # as a cluster's head, before any sweep
    page = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: answers(port))
    page.terminate()
    assert page.wait(60) == Status.TERMINATED
    wait_for(lambda: not answers(port))
