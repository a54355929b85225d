"""The address of a database is that of its file, whatever the folder is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlalchemy

from sweeps.spec.sqlite_address import sqlite_address, sqlite_file
from trainables.bad_input import BadInput

NAMES = [
    "plain",
    "a?b",
    "a#b",
    "a%3Fb",
    "100%",
    "%(x)s",
    "a b",
    "ä",
    'it\'s "x"',
    "a\nb",
    "-x",
    "a@b:c",
    "a&mode=memory",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_database_lies_in_its_folder(tmp_path, name):
    file = tmp_path / name / "x.db"
    file.parent.mkdir()
    address = sqlite_address(file)
    with sqlalchemy.create_engine(address).connect() as database:
        database.execute(sqlalchemy.text("create table t (x int)"))
    assert file.is_file()
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert sqlite_file(address) == file


def test_a_plain_path_is_written_as_it_is(tmp_path):
    assert sqlite_address(tmp_path / "mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_path_that_is_no_text_is_refused_in_one_line(tmp_path):
    with pytest.raises(BadInput, match=r"udcff.*rename its folder") as refused:
        sqlite_address(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff/x.db")))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["postgresql://host/x.db", "https://host", "sqlite:///:memory:", "sqlite://"])
def test_what_is_no_file(address):
    assert sqlite_file(address) is None
