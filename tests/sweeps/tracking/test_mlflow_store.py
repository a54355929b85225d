"""Where MLflow's store and its pages are: addresses, and the command that shows them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from sweeps.tracking.mlflow_store import (
    make_database,
    public,
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
