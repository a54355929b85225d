"""Where MLflow's store and its pages are: addresses, ports, and the command that shows them."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing

import pytest

from sweeps.tracking.mlflow_store import (
    check_port,
    make_database,
    public,
    serve_ui,
    set_environment,
    store_uri,
    ui_command,
)
from tests.support.tracking_kit import changed_environment
from trainables.bad_input import BadInput


def test_addresses(tmp_path):
    assert public("https://me:secret@host:5000/x") == "https://host:5000/x"
    with changed_environment({"MLFLOW_TRACKING_URI": ""}):
        assert store_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    with changed_environment({"MLFLOW_TRACKING_URI": "./mlruns"}), pytest.raises(BadInput, match="unset it"):
        store_uri(tmp_path)
    command, _ = ui_command("sqlite:////x/mlflow.db", 5001)
    assert command[1:] == ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "5001", "--workers", "1"]
    with pytest.raises(BadInput, match="http://host is a server already"):
        ui_command("http://me:secret@host", 5000)


def test_a_database_of_another_version_is_refused_before_a_sweep_starts_with_what_mends_it(tmp_path):
    file = tmp_path / "mlflow.db"
    with changed_environment({"MLFLOW_TRACKING_URI": ""}):
        set_environment()
        make_database(f"sqlite:///{file}")
        assert store_uri(tmp_path) == f"sqlite:///{file}", "of this version"
        with closing(sqlite3.connect(file)) as tables, tables:
            tables.execute("update alembic_version set version_num = '451aebb31d03'")  # the first that MLflow had
        with pytest.raises(BadInput, match=f"is older than MLflow .*mlflow db upgrade sqlite:///{file}$"):
            store_uri(tmp_path)
        with closing(sqlite3.connect(file)) as tables, tables:
            tables.execute("update alembic_version set version_num = 'of tomorrow'")
        with pytest.raises(BadInput, match="is newer than MLflow"):
            store_uri(tmp_path)


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"])
def test_a_password_does_not_travel_in_clear_text(tmp_path, variable):
    for uri in ("http://me:secret@box:5000", "http://me:secret@10.0.0.2"):
        with changed_environment({"MLFLOW_TRACKING_URI": uri}), pytest.raises(BadInput, match="plain http") as told:
            store_uri(tmp_path)
        assert "secret" not in str(told.value)
    with changed_environment({"MLFLOW_TRACKING_URI": "http://box:5000"}):
        assert store_uri(tmp_path) == "http://box:5000"
        with changed_environment({variable: "secret"}), pytest.raises(BadInput, match="give an https:// address"):
            store_uri(tmp_path)
    for uri in ("https://me:secret@box", "http://me:secret@127.0.0.1:5000", "postgresql://me:secret@box/db"):
        with changed_environment({"MLFLOW_TRACKING_URI": uri, variable: "secret"}):
            assert store_uri(tmp_path) == uri


def test_a_taken_port_is_one_line_with_the_remedy():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BadInput, match=f"^port {port} is in use; choose another with --port$"):
            check_port(port)
    check_port(port)
    with pytest.raises(BadInput, match="--port 70000: ports are 1 to 65535"):
        check_port(70000)


def test_a_folder_without_sweeps_is_said_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        changed_environment({"MLFLOW_TRACKING_URI": ""}),
        pytest.raises(BadInput, match=f"written to {tmp_path}; go to"),
    ):
        serve_ui()
    assert list(tmp_path.iterdir()) == []
