"""The MLflow database or server that keeps the runs. Only this file and `registry.py` import mlflow."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sweeps.results.terminal import print
from sweeps.spec.addresses import in_clear
from sweeps.spec.validation import BadInput
from sweeps.tracking.event_queue import Event
from sweeps.tracking.events import Update, merge

SWEEP_TAG, TRIAL_TAG, PARENT_TAG = "espalier.sweep_id", "espalier.trial_id", "mlflow.parentRunId"
ITEMS = 100  # parameters, tags and metrics in one request; MLflow takes at most 100, 100 and 1,000, and 1 MB
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}  # the server answers, and will never accept this
DATABASE = "mlflow.db"  # in the folder in which a sweep is started
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")  # which MLflow sends to a server
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the event queue retries; the default of 7 takes four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds without an answer; the default is 120
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that only MLflow's LLM judges need
}


class Store:
    """Writes a sweep's events to MLflow. Used by one thread; may take seconds, and raises if the store is unreachable.

    Sending the same events twice changes nothing: runs are found by their tags before they are created, and MLflow
    keeps equal parameters, tags and metrics once. `refused` is called with what MLflow will never accept.
    """

    def __init__(self, uri: str, experiment: str, sweep_id: str, refused: Callable[[str], None]) -> None:
        self.uri, self.experiment_id = uri, None  # type: str, str | None
        self._experiment, self._sweep_id, self._refused = experiment, sweep_id, refused
        self._client: Any = None
        self._runs: dict[str | None, str] = {}

    @property
    def parent(self) -> str | None:
        """The id of the sweep's own run; None before the first events have arrived."""
        return self._runs.get(None)

    def send(self, events: Iterable[Event]) -> None:
        try:
            self._connect()
            for update in merge(events):
                self._send(update)
        except Exception:
            self._client = None  # look up all runs again: another server may answer next time
            self._runs.clear()
            raise

    def _connect(self) -> None:
        if self._client is not None:
            return
        set_environment()
        from mlflow import MlflowClient  # 2 s, and on this thread rather than the driver's

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # its exceptions are reported in one line
        client = MlflowClient(self.uri)
        found = client.get_experiment_by_name(self._experiment)
        if found is not None and found.lifecycle_stage != "active":
            raise RuntimeError(
                f"its experiment {self._experiment!r} was deleted; restore it, or set MLFLOW_EXPERIMENT_NAME"
            )
        self.experiment_id = (
            found.experiment_id if found else client.create_experiment(self._experiment, _artifacts(self.uri))
        )
        self._client = client

    def _send(self, update: Update) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run = self._run(update)
        items: list[Any] = [Metric(*metric) for metric in update.metrics]
        items += [Param(*param) for param in update.params.items()]
        items += [RunTag(*tag) for tag in update.tags.items()]
        for start in range(0, len(items), ITEMS):
            self._log(run, items[start : start + ITEMS])
        for folder, artifact in update.folders:
            self._upload(run, folder, artifact)
        if update.status == "RUNNING":
            self._client.update_run(run, status="RUNNING")
        elif update.status:
            self._client.set_terminated(run, update.status, update.ended)

    def _run(self, update: Update) -> str:
        """Return the id of a trial's run, or of the sweep's: cached, found by its tags, or created."""
        if update.trial in self._runs:
            return self._runs[update.trial]
        own = {SWEEP_TAG: self._sweep_id}
        if update.trial is not None:
            own = {PARENT_TAG: self._run(Update(None, update.began)), TRIAL_TAG: update.trial}
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in own.items())
        found = self._client.search_runs([self.experiment_id], where, max_results=1)
        run = found[0] if found else self._client.create_run(self.experiment_id, update.began, update.tags | own)
        self._runs[update.trial] = run.info.run_id
        return run.info.run_id

    def _log(self, run: str, items: list[Any]) -> None:
        """Log items. If MLflow refuses some for good, such as names that it cannot store, log all others."""
        from mlflow import MlflowException
        from mlflow.entities import Metric, Param, RunTag

        kinds = {"metrics": Metric, "params": Param, "tags": RunTag}
        try:
            self._client.log_batch(run, **{k: [i for i in items if isinstance(i, kind)] for k, kind in kinds.items()})
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            if len(items) == 1:
                self._refused(f"MLflow refused {items[0].key!r}: {error_line(error, self.uri)}")
                return
            self._log(run, items[: len(items) // 2])
            self._log(run, items[len(items) // 2 :])

    def _upload(self, run: str, folder: str, artifact: str) -> None:
        """Upload a folder as an artifact. If only the artifact store fails, a retry would not help: warn."""
        try:
            self._client.log_artifacts(run, folder, artifact)
        except Exception as error:
            self._client.get_run(run)
            why = error_line(error, self.uri)
            self._refused(f"MLflow did not take the files of {folder}: {why}; they are still there")


def set_environment() -> None:
    """Set MLflow's environment variables that the user has not set. Call this before mlflow is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def store_uri(folder: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or a database in `folder`. Raises BadInput for a store that MLflow no longer has."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve() / DATABASE}"
    if uri.split(":")[0].split("+")[0] not in (*DATABASES, "http", "https", "databricks"):
        raise BadInput(
            f"MLFLOW_TRACKING_URI={public(uri)}: MLflow keeps no runs in folders any more; unset it, or give"
            " sqlite:///FILE or http://HOST:PORT"
        )
    if in_clear(uri) and ("@" in urlsplit(uri).netloc or any(os.environ.get(name) for name in SECRETS)):
        raise BadInput(
            f"MLFLOW_TRACKING_URI={public(uri)} is another machine, and plain http would show your password to the"
            " network; give an https:// address, or tunnel the server here: ssh -L 5000:localhost:5000 HOST"
        )
    return uri


def public(uri: str) -> str:
    """Return an address without its password."""
    return _without_password(uri, uri)


def error_line(error: Exception, uri: str) -> str:
    """Return the first line of a store's error, without the password of the address that it may quote."""
    lines = _without_password(str(error), uri).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _without_password(text: str, uri: str) -> str:
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(user + at, "") if at else text


def _artifacts(uri: str) -> str | None:
    """Return `mlartifacts` beside a SQLite file: MLflow's default depends on the working directory."""
    return (
        (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
        if uri.startswith("sqlite")
        else None
    )


def ui_command(uri: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves a database on this machine only, and its environment variables.

    The database's address is among the variables, because every user of the machine can read a process's command line.
    MLflow's own list of allowed hosts has patterns such as `10.*`, which names of other sites can match.
    Raises BadInput if `uri` is a server.
    """
    if uri.split(":")[0].split("+")[0] not in DATABASES:
        raise BadInput(f"MLFLOW_TRACKING_URI={public(uri)} is a server already: open it in a browser")
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    variables = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*"}
    return [sys.executable, "-m", "mlflow", "server", *where], variables


def check_port(port: int) -> None:
    """BadInput if the port of this machine is taken or cannot be."""
    if not 1 <= port <= 65535:
        raise BadInput(f"--port {port}: ports are 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was closed a moment ago is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = "is in use" if error.errno in (48, 98) else f"cannot be opened ({error.strerror})"
            raise BadInput(f"port {port} {why}; choose another with --port") from error


def serve_ui(port: int = 5000) -> None:
    """Open MLflow on what the sweeps started in this folder wrote: http://127.0.0.1:PORT.

    Args:
        port: of this machine
    """
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (Path.cwd() / DATABASE).is_file():  # MLflow would make one
        raise BadInput(f"no sweep has written to {Path.cwd()}; go to the folder that one was started in")
    command, variables = ui_command(store_uri(Path.cwd()), port)
    check_port(port)
    print(f"MLflow: http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    set_environment()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(command, start_new_session=True, env=os.environ | variables)
    try:
        sys.exit(server.wait())
    except KeyboardInterrupt:
        sys.exit(0)
    finally:  # MLflow starts processes of its own, which would keep the port
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
