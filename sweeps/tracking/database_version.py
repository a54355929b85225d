"""Which version of MLflow has made a database. MLflow itself says only while a sweep runs that it cannot open one."""

from __future__ import annotations

import re
import shlex
import sqlite3
import sys
from contextlib import closing
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from sweeps.spec.sqlite_address import sqlite_file
from trainables.bad_input import BadInput

MIGRATIONS = "store/db_migrations/versions"  # a file for each version of MLflow's tables, in its package
REVISION, BEFORE = (re.compile(rf'^{name} = "(\w+)"', re.M) for name in ("revision", "down_revision"))


def check_version(uri: str) -> None:
    """Raise BadInput for a file of SQLite that this MLflow cannot open: of another version, or no database at all."""
    if (file := sqlite_file(uri)) is None or not file.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as tables:
            made_by = [one for (one,) in tables.execute("select version_num from alembic_version")]
    except sqlite3.OperationalError:  # it is locked, or has no tables yet
        return
    except sqlite3.DatabaseError as error:
        raise BadInput(f"MLflow's {file}", f"cannot be read ({error})", "move it away; a new one is made") from error
    known, latest = _versions()
    if not made_by or latest in made_by:
        return
    if known.issuperset(made_by):
        upgrade = shlex.join([sys.executable, "-m", "mlflow", "db", "upgrade", uri])
        raise BadInput(f"MLflow's {file}", f"is older than MLflow {version('mlflow')}", f"copy it, then: {upgrade}")
    remedy = "install the MLflow that made it, or move it away; a new one is made"
    raise BadInput(f"MLflow's {file}", f"is newer than MLflow {version('mlflow')}", remedy)


def _versions() -> tuple[set[str], str | None]:
    """Return the versions of tables that this MLflow knows, and the latest, without the seconds of its import."""
    package = find_spec("mlflow")
    folder = Path(package.origin or "").parent / MIGRATIONS if package else Path()
    texts = [file.read_text() for file in folder.glob("*.py")]
    known, before = ({one for text in texts for one in pattern.findall(text)} for pattern in (REVISION, BEFORE))
    return known, next(iter(known - before), None)
