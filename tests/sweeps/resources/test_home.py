"""A user without a home, or with folders that cannot be written to, gets others; what is there is still read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.surroundings import AS_NOBODY, UID, nobody_is_possible

NAMES = ("HOME", "USER", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME")
CODE = f"""
import getpass, json, os
from sweeps.resources.home import settle_home
print(json.dumps([settle_home(), {{name: os.environ.get(name, "") for name in {NAMES}}}, getpass.getuser()]))
"""
OURS = f"/tmp/espalier-{UID}"

pytestmark = pytest.mark.skipif(not nobody_is_possible(), reason="this machine has no user namespaces (`unshare -U`)")


def settled(**own):
    """What is said, the variables, and the user's name, for a user without rights of root."""
    root = {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([*AS_NOBODY, sys.executable, "-c", CODE], capture_output=True, text=True, env=root | own)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_home_and_no_name():
    said, variables, user = settled()
    assert said.startswith(f"HOME (user {UID} has none) is no folder that can be written to; {OURS} is used instead")
    assert variables["HOME"] == f"{OURS}/home"
    assert user == f"user-{UID}"
    assert Path(OURS).stat().st_mode & 0o077 == 0


def test_a_home_that_can_be_used_stays(tmp_path):
    said, variables, user = settled(HOME=str(tmp_path), USER="ann")
    assert (said, variables["HOME"], variables["XDG_CACHE_HOME"], user) == ("", str(tmp_path), "", "ann")
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_to_is_read(tmp_path):
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache").chmod(0o500)
    said, variables, _ = settled(HOME=str(tmp_path))
    assert said.startswith(f"XDG_CACHE_HOME ({tmp_path}/.cache) is no folder that can be written to")
    assert variables["HOME"] == str(tmp_path)
    assert variables["XDG_CACHE_HOME"] == f"{OURS}/cache"
    assert variables["HF_HOME"] == str(tmp_path / ".cache/huggingface")


def test_keys_that_are_there_are_used_where_nothing_can_be_written(tmp_path):
    (tmp_path / ".config/espalier").mkdir(parents=True)
    (tmp_path / ".config/espalier").chmod(0o500)
    (tmp_path / ".config").chmod(0o500)
    said, variables, _ = settled(HOME=str(tmp_path))
    assert (said, variables["XDG_CONFIG_HOME"]) == ("", "")
