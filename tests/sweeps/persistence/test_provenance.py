"""What is recorded of the code and of the variables that decide the last bits of numbers."""

from __future__ import annotations

import os

import pytest

from sweeps.persistence.number_variables import use_again, used
from sweeps.persistence.provenance import commit, python_path, why_no_commit
from sweeps.spec.checkout import ROOT


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("ESPALIER_COMMIT", None)


def test_no_git_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == ""
    assert why_no_commit() == "the commit of the code is unknown (there is no git here)"


def test_a_git_that_refuses_this_folder(tmp_path, monkeypatch):
    (tmp_path / "git").write_text("#!/bin/sh\necho 'fatal: dubious ownership' >&2\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert commit() == ""
    assert "(fatal: dubious ownership)" in why_no_commit()
    monkeypatch.setenv("ESPALIER_COMMIT", "v1")
    assert (commit(), why_no_commit()) == ("v1", "")


def test_an_empty_part_of_pythonpath_is_not_the_folder_one_stands_in(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/asked/for", ""]))
    assert python_path() == f"{ROOT}{os.pathsep}/asked/for"


def test_variables_are_used_again_and_no_others(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE; rm -r /")
    recorded = used()
    assert recorded["ATEN_CPU_CAPABILITY"] == "default"
    assert "MKL_CBWR" not in recorded, "it is no value of MKL's"
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    use_again({**recorded, "LD_PRELOAD": "/tmp/evil.so", "NVIDIA_TF32_OVERRIDE": "$(x)"})
    assert os.environ["ATEN_CPU_CAPABILITY"] == "default"
    assert {"LD_PRELOAD", "OMP_NUM_THREADS", "MKL_CBWR", "NVIDIA_TF32_OVERRIDE"}.isdisjoint(os.environ)
