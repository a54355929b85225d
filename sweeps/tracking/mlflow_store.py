"""The MLflow database or server that keeps the runs. Only this file and `registry.py` import mlflow."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sweeps.spec.addresses import in_clear, read_address
from sweeps.spec.sqlite_address import sqlite_address, sqlite_file
from sweeps.tracking.database_version import check_version
from sweeps.tracking.event_queue import Event, Forgotten
from sweeps.tracking.events import Update, merge
from sweeps.tracking.shared_view import STATE_TAG, is_known
from trainables.bad_input import BadInput, shortened

SWEEP_TAG, TRIAL_TAG, PARENT_TAG = "espalier.sweep_id", "espalier.trial_id", "mlflow.parentRunId"
ITEMS = 100  # parameters, tags and metrics in one request; MLflow takes at most 100, 100 and 1,000, and 1 MB
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}  # the server answers, and will never accept this
SQLITE = b"SQLite format 3\0"  # the first bytes of a database (https://sqlite.org/fileformat.html)
LONGEST_ERROR = 500  # characters; MLflow's remedies are at the end
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
    `folder` is the sweep's: only folders in it are uploaded.
    """

    def __init__(
        self, uri: str, experiment: str, sweep_id: str, refused: Callable[[str], None], folder: Path | None = None
    ) -> None:
        self.uri, self.experiment_id = uri, None  # type: str, str | None
        self._experiment, self._refused = experiment, refused
        self._own = {SWEEP_TAG: sweep_id}
        self._folder = folder.resolve() if folder else None
        self._client: Any = None
        self._runs: dict[str | None, str] = {}
        self._may_have_runs = True  # which another driver made, or which were made without an answer
        self.view: str | None = None  # the key of the sweep's view, if the pages of this MLflow can show it

    @property
    def parent(self) -> str | None:
        """The id of the sweep's own run; None before the first events have arrived."""
        return self._runs.get(None)

    def has_sweep(self) -> bool:
        """Return whether the store has the sweep's own run. Nothing is created. Raises if the store is unreachable."""
        if file := sqlite_file(self.uri):
            if not file.is_file():
                return False  # MLflow would make one
            check_database(file)
        set_environment()
        from mlflow import MlflowClient

        self._client = MlflowClient(self.uri)
        found = self._client.get_experiment_by_name(self._experiment)
        self._check_active(found)
        self.experiment_id = found and found.experiment_id
        return found is not None and bool(self._found(self._own))

    def send(self, events: Sequence[Event]) -> None:
        """Write them. Raises Forgotten if these are not a sweep's first, and the store has not its run."""
        try:
            self._connect()
            if None not in self._runs and SWEEP_TAG not in events[0].get("tags", {}) and not self._found(self._own):
                raise Forgotten
            for update in merge(events):
                self._send(update)
        except Exception:
            self._client = None  # look up all runs again: another server may answer next time
            self._runs.clear()
            self._may_have_runs = True
            raise

    def _connect(self) -> None:
        if self._client is not None:
            return
        set_environment()
        from mlflow import MlflowClient  # 2 s, and on this thread rather than the driver's

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # its exceptions are reported in one line
        make_database(self.uri)
        client = MlflowClient(self.uri)
        if engine := getattr(client._tracking_client.store, "engine", None):
            engine.dispose()  # connections that MLflow keeps, perhaps to a file that was deleted or replaced
        found = client.get_experiment_by_name(self._experiment)
        self._check_active(found)
        self.experiment_id = (
            found.experiment_id if found else client.create_experiment(self._experiment, _artifacts(self.uri))
        )
        self._client = client

    def _check_active(self, experiment: Any) -> None:
        if experiment is not None and experiment.lifecycle_stage != "active":
            raise RuntimeError(
                f"its experiment {self._experiment!r} was deleted; restore it, or set MLFLOW_EXPERIMENT_NAME"
            )

    def _send(self, update: Update) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run = self._run(update)
        items: list[Any] = [Metric(*metric) for metric in update.metrics]
        items += [Param(*param) for param in update.params.items()]
        items += [RunTag(*tag) for tag in update.tags.items()]
        for start in range(0, len(items), ITEMS):
            self._log(run, items[start : start + ITEMS])
        if update.datasets:
            self._log_inputs(run, update.datasets)
        if update.view:
            self._share(*update.view)
        for name in update.folders:
            self._upload(run, name)
        for model in update.models:
            self._keep_model(run, model)
        if update.status:
            self._set_status(run, update.status, update.ended)

    def _log_inputs(self, run: str, datasets: Sequence[tuple[str, str, str]]) -> None:
        from mlflow import MlflowException
        from mlflow.entities import Dataset, DatasetInput, InputTag

        context = [InputTag("mlflow.data.context", "sweep")]
        known = [Dataset(name, digest, "espalier", source) for name, digest, source in datasets]
        try:
            self._client.log_inputs(run, [DatasetInput(one, context) for one in known])
        except MlflowException as error:
            self._take_refusal("a run's data", error)

    def _share(self, key: str, state: Mapping[str, Any]) -> None:
        """Keep a view of the experiment, if the pages of this MLflow are known to show it."""
        from mlflow import MlflowException

        if not is_known(_version_at(self.uri)):
            return
        try:
            self._client.set_experiment_tag(self.experiment_id, STATE_TAG + key, json.dumps(state))
            self.view = key
        except MlflowException as error:
            self._take_refusal("the view of a sweep", error)

    def _set_status(self, run: str, status: str, ended: int) -> None:
        from mlflow import MlflowException

        try:
            if status == "RUNNING":
                self._client.update_run(run, status=status)
            else:
                self._client.set_terminated(run, status, ended)
        except MlflowException as error:
            self._take_refusal("the end of a run", error)

    def _run(self, update: Update) -> str:
        """Return the id of a trial's run, or of the sweep's: cached, found by its tags, or created."""
        if update.trial in self._runs:
            return self._runs[update.trial]
        own = self._own
        if update.trial is not None:
            own = {PARENT_TAG: self._run(Update(None, update.began)), TRIAL_TAG: update.trial}
        found = self._found(own) if update.trial is None or self._may_have_runs else ()
        if update.trial is None:
            self._may_have_runs = bool(found)
        run = found[0] if found else self._client.create_run(self.experiment_id, update.began, update.tags | own)
        if not found:
            update.tags = {}  # it has them
        self._runs[update.trial] = run.info.run_id
        return run.info.run_id

    def _found(self, tags: Mapping[str, str]) -> Sequence[Any]:
        """Return the run with these tags if there is one, also if somebody has deleted it."""
        from mlflow.entities import ViewType

        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return self._client.search_runs([self.experiment_id], where, ViewType.ALL, max_results=1)

    def _log(self, run: str, items: list[Any]) -> None:
        """Log items. If MLflow refuses some for good, such as names that it cannot store, log all others."""
        from mlflow import MlflowException
        from mlflow.entities import Metric, Param, RunTag

        kinds = {"metrics": Metric, "params": Param, "tags": RunTag}
        try:
            self._client.log_batch(run, **{k: [i for i in items if isinstance(i, kind)] for k, kind in kinds.items()})
        except MlflowException as error:
            if len(items) == 1:
                self._take_refusal(repr(items[0].key), error)
                return
            if error.error_code not in REFUSED:
                raise
            self._log(run, items[: len(items) // 2])
            self._log(run, items[len(items) // 2 :])

    def _take_refusal(self, what: str, error: Any) -> None:
        """Warn that MLflow will never accept something. Raise if it may do so later: when it is reached again, or when
        the experiment is restored whose deletion deletes all its runs. A run that was deleted alone is let go."""
        if error.error_code not in REFUSED:
            raise error
        self._check_active(self._client.get_experiment(self.experiment_id))
        self._refused(f"MLflow refused {what}: {error_line(error, self.uri)}")

    def _upload(self, run: str, name: str) -> None:
        """Upload a folder of the sweep as an artifact of its name."""
        folder = self._folder_of(name)
        if folder is None:
            return
        with self._if_only_files_fail(run, folder):
            self._client.log_artifacts(run, str(folder), name)

    def _keep_model(self, run: str, model: Mapping[str, Any]) -> None:
        """Keep a finalist as a logged model of its trial's run, with its files, and a score of its own and its run's.

        Its files are uploaded once: those of the finalist's first seed stay as they are.
        """
        folder = self._folder_of(model["folder"])
        if folder is None:
            return
        with self._if_only_files_fail(run, folder):
            made = self._logged_model(run)
            if made.status != "READY":
                self._client.log_model_artifacts(made.model_id, str(folder))
                self._client.finalize_logged_model(made.model_id, "READY")
            for name, value in model["metrics"].items():
                self._client.log_metric(run, name, value, model["at"], 0, model_id=made.model_id)

    def _logged_model(self, run: str) -> Any:
        """Return the logged model of a run, which is made if there is none."""
        found = self._client.search_logged_models([self.experiment_id], f"source_run_id = '{run}'", max_results=1)
        if found:
            return found[0]
        known = self._client.get_run(run)
        name = re.sub(r"[/:.%\"']", "_", known.info.run_name)  # MLflow refuses these
        return self._client.create_logged_model(self.experiment_id, name, run, params=known.data.params)

    def _folder_of(self, name: str) -> Path | None:
        """Return a folder below the sweep's; None, with a warning, for any other, and for a link.

        The name comes from a file, which somebody else may have written: no other folder of this machine is uploaded.
        """
        own = self._folder
        folder = own / name if own and name else None
        if own and folder and own in folder.parents and folder.resolve() == folder:
            return folder
        self._refused(f"{name!r} is not a folder of the sweep, and is not uploaded to MLflow")
        return None

    @contextlib.contextmanager
    def _if_only_files_fail(self, run: str, folder: Path) -> Iterator[None]:
        """Warn if only the place for files fails: a retry would not help. Raise if MLflow cannot be reached."""
        try:
            yield
        except Exception as error:
            self._client.get_run(run)
            self._check_active(self._client.get_experiment(self.experiment_id))
            why = error_line(error, self.uri)
            self._refused(f"MLflow did not take the files of {folder}: {why}; they are still there")


def _version_at(uri: str) -> str:
    """Return the version of the MLflow whose pages show this store; empty if it does not say so."""
    if uri.split(":")[0].split("+")[0] in DATABASES:
        return version("mlflow")
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(get_default_host_creds(uri), "/version", "GET")
    except Exception:  # whatever MLflow raises; what follows would fail, too, if the server were down
        return ""
    return answer.text if answer.ok else ""


def make_database(uri: str) -> None:
    """Make the SQLite file at `uri` with MLflow's tables if it is not there, as a whole.

    MLflow takes seconds for its tables, and never again opens a file in which a killed process has made some of them.
    Its client would also write the working folder's name into a statement of SQL as it is, which fails for a name with
    a quote, a colon or a newline.
    """
    path = sqlite_file(uri)
    if path is None:
        return
    if path.exists():
        check_database(path)
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        SqlAlchemyStore(sqlite_address(fresh), _artifacts(uri)).engine.dispose()
        try:
            os.link(fresh, path)
        except FileExistsError:  # another sweep was faster
            return
        except OSError:  # a disk without links
            os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def check_database(file: Path) -> None:
    """Raise DatabaseError if the file is no SQLite database: MLflow would try again and again to open it, for 100 s."""
    with file.open("rb") as opened:
        if opened.read(len(SQLITE)) not in (SQLITE, b""):  # an empty file is an empty database
            raise sqlite3.DatabaseError("file is not a database")


def set_environment() -> None:
    """Set MLflow's environment variables that the user has not set. Call this before mlflow is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def store_uri(folder: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or a database in `folder`. Raises BadInput for what MLflow does not have or open."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(folder / DATABASE)
    if uri.split(":")[0].split("+")[0] not in (*DATABASES, "http", "https", "databricks"):
        raise BadInput(
            f"MLFLOW_TRACKING_URI={public(uri)}: MLflow keeps no runs in folders any more; unset it, or give"
            " sqlite:///FILE or http://HOST:PORT"
        )
    read_address(f"MLFLOW_TRACKING_URI={uri.rpartition('@')[2]}", uri)
    if in_clear(uri) and ("@" in urlsplit(uri).netloc or any(os.environ.get(name) for name in SECRETS)):
        raise BadInput(
            f"MLFLOW_TRACKING_URI={public(uri)} is another machine, and plain http would show your password to the"
            " network; give an https:// address, or tunnel the server here: ssh -L 5000:localhost:5000 HOST"
        )
    check_version(uri)
    return uri


def public(uri: str) -> str:
    """Return an address without its password."""
    return _without_password(uri, uri)


def error_line(error: Exception, uri: str) -> str:
    """Return the first line of a store's error, without the password of the address that it may quote."""
    lines = _without_password(str(error), uri).strip().splitlines()
    return shortened(lines[0], LONGEST_ERROR) if lines else type(error).__name__


def _without_password(text: str, uri: str) -> str:
    user, at, _ = uri.partition("://")[2].partition("/")[0].rpartition("@")
    return text.replace(user + at, "") if at else text


def _artifacts(uri: str) -> str | None:
    """Return `mlartifacts` beside a SQLite file: MLflow's default depends on the working directory."""
    file = sqlite_file(uri)
    return (file.resolve().parent / "mlartifacts").as_uri() if file else None


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


@contextlib.contextmanager
def serving(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve a database with MLflow at 127.0.0.1:`port` until the end of the block. Raises BadInput for a server."""
    command, variables = ui_command(uri, port)
    set_environment()
    server = subprocess.Popen(command, start_new_session=True, env=os.environ | variables)
    try:
        yield server
    finally:  # MLflow starts processes of its own, which would keep the port
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
