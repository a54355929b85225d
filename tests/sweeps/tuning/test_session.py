"""The facts that a sweep writes about itself, into a folder of its own, readable on other machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.results.run_folder import Run
from sweeps.spec.run_options import RunOptions
from sweeps.tuning.session import choose_folder, create
from tests.support.facts_kit import least_facts
from tests.support.toy_sweep import SWEEP as TOY
from trainables.bad_input import BadInput

ROOT = Path(__file__).parents[3]


def test_who_comes_second_is_told_which_name_is_free(tmp_path):
    """Both had found the name free before Ray was up."""
    create(tmp_path / "arc", {"sweep": {"seed": 1}})
    (tmp_path / "arc-2").mkdir()
    with pytest.raises(BadInput, match="begun meanwhile by another sweep; start again with --name arc-3"):
        create(tmp_path / "arc", {"sweep": {"seed": 2}})
    assert "seed: 1" in (tmp_path / "arc/sweep.yaml").read_text()


def test_a_sweep_is_read_back_whatever_the_locale_that_wrote_it(tmp_path):
    facts = least_facts("Bäume")
    code = f"from pathlib import Path; from sweeps.tuning.session import create; create(Path('arc'), {facts!a})"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | plain, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Run.read(tmp_path / "arc").facts == facts


def test_an_end_that_a_full_disk_left_empty_is_no_end(tmp_path):
    create(tmp_path / "arc", least_facts("arc"))
    (tmp_path / "arc/end.yaml").touch()
    assert Run.read(tmp_path / "arc").end == {}


@pytest.mark.parametrize("path", ["x" * 300, "a\0b"])
def test_a_name_that_no_folder_can_have_is_one_line(tmp_path, path):
    for options in (RunOptions(name=path, storage_path=tmp_path), RunOptions(storage_path=tmp_path / path)):
        with pytest.raises(BadInput, match="choose another --name or --storage-path") as refused:
            choose_folder(TOY, options)
        assert "\n" not in str(refused.value)
