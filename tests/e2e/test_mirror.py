"""A driver that is killed, and one on another disk that goes on from the mirror."""

from __future__ import annotations

import shutil

from sweeps.persistence.snapshot import SNAPSHOT
from sweeps.results.run_folder import DATABASE
from tests.support.driving import SCRIPT, kill, mlflow_runs, start, study, study_in, sweep_here, wait_for

OFTEN = f"""
import runpy, sys
sys.path.insert(0, {str(SCRIPT.parents[2])!r})
import sweeps.cli.main
from sweeps.persistence import mirror
mirror.EVERY_S = 0.2
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


def test_a_killed_driver_is_followed_by_one_on_another_disk(tmp_path, ray_session):
    """Only the mirror is left of the first machine: finished trials stay, the others go on, and MLflow hears of all."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    mirror = ["--mirror", f"file://{tmp_path}/there"]
    often = tmp_path / "often.py"
    often.write_text(OFTEN)
    driver, flags, _ = start(tmp_path / "first", "--name", "moved", *mirror, rounds=6, script=often)
    there = tmp_path / "there/moved"
    wait_for(lambda: (there / SNAPSHOT).is_file() and len(list(there.glob("tune/*/checkpoint_*/state.pt"))) > 1)
    wait_for(lambda: (there / DATABASE).is_file() and len(study_in(there).trials) >= 2)
    assert driver.poll() is None, "it is killed in the middle"
    kill(driver)
    done = {t.number: t.params for t in study(tmp_path / "first", "moved").trials}
    shutil.rmtree(tmp_path / "first/runs")
    refused = sweep_here(tmp_path / "second", *flags, check=False)
    assert refused.returncode == 2
    assert "has a 'moved' already; give another --name, or add --resume" in refused.stderr
    out = sweep_here(tmp_path / "second", *flags, "--resume").stdout
    assert "fetched runs/moved from" in out
    trials = study(tmp_path / "second", "moved").trials
    finished = [t for t in trials if t.user_attrs.get("ended") == "finished"]
    assert len(finished) == 6
    assert [t.params for t in trials[:2]] == [done[0], done[1]]
    children, parents = mlflow_runs(tmp_path / "second")
    assert sorted(how for _, how in children.values()) == ["finished"] * 6
    assert parents == ["FINISHED"]
    assert not (tmp_path / "first/runs").exists(), "nothing goes where the sweep was before"
    assert (there / "end.yaml").is_file(), "what the second did is in the mirror, too"
