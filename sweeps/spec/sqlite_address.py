"""SQLAlchemy's address of an SQLite file, and back: a `?` or a `%` in a path is no part of an address as it is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.engine import URL

from trainables.bad_input import BadInput

ENCODED = "sqlite+pysqlite"  # of `sqlite:///`, MLflow takes the rest as a path, and would make its folder


def sqlite_address(file: Path) -> str:
    """Return the address of a file, from which SQLAlchemy, Optuna and MLflow get its path. Raises BadInput for a path
    that has none, because it is not text."""
    path = str(file.resolve())
    with suppress(UnicodeEncodeError):  # bytes that are no UTF-8
        for driver in ("sqlite", ENCODED):
            address = URL.create(driver, database=path).render_as_string()
            if make_url(address).database == path and (driver == ENCODED or address.endswith(path)):
                return address
    raise BadInput(f"{path!r}: databases cannot have this path; rename its folder, or go to another one")


def sqlite_file(address: str) -> Path | None:
    """Return the file of an SQLite address; None for another database or a server, or if it is kept in memory."""
    if not address.startswith("sqlite"):
        return None
    path = make_url(address).database
    return Path(path) if path and path != ":memory:" else None
