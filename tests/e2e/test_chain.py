"""A chain of two real sweeps: each on what the best of the one before has become, one folder, resumed where it was."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch
import transformers
import yaml

from sweeps.cli.chain_runner import merge_winner, phase_budget
from sweeps.cli.flags import read
from sweeps.results.run_folder import Run
from tests.support import chain_script
from tests.support.chain_script import SWEEP, TASK
from tests.support.driving import press_ctrl_c, script_here, sweep_here, wait_for
from trainables.bad_input import BadInput
from trainables.models.loading import load
from trainables.packed.host import Host

SCRIPT = Path(chain_script.__file__)
FLAGS = ["--set", "beta=0.2", "--learner", "dpo"]  # known to the second phase alone


@pytest.fixture(scope="module")
def finished(tmp_path_factory, ray_session):
    """Interrupted in its second phase, and resumed: the folder, both outputs, and the first phase's files before."""
    folder = tmp_path_factory.mktemp("chain")

    def press(printed):
        wait_for(lambda: "started" in printed().partition("mini-two: 1 trials")[2])
        press_ctrl_c()

    mirror = ["--mirror", f"file://{folder}/mirror"]
    done = sweep_here(folder, *FLAGS, *mirror, script=SCRIPT, check=False, meanwhile=press)
    assert done.returncode == 130, done.stdout + done.stderr
    assert yaml.safe_load((folder / "runs/mini/mini-two/end.yaml").read_text())["interrupted"]
    before = times(folder)
    time.sleep(0.01)
    return folder, done.stdout, sweep_here(folder, *FLAGS, "--resume", script=SCRIPT).stdout, before


def times(folder):
    one = folder / "runs/mini/mini-one"
    files = [one / "end.yaml", one / "trials.parquet", *sorted((one / "merged").iterdir())]
    return {str(file): file.stat().st_mtime_ns for file in files}


def test_one_folder_has_a_folder_for_each_phase(finished):
    folder, first, second, _ = finished
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["mini"]
    assert sorted(path.name for path in (folder / "runs/mini").iterdir()) == ["mini-one", "mini-two"]
    assert "the next phase starts from trial 0 of mini-one" in first
    told = second[second.index("phases:") :].splitlines()
    assert [line.split(":")[0].strip() for line in told[1:3]] == ["mini-one", "mini-two"]


def test_the_second_phase_is_measured_against_the_winner_of_the_first(finished):
    """Both in the same format: the untouched base of the second is the first's adapter, merged."""
    folder, *_ = finished
    one, two = (Run.read(folder / f"runs/mini/mini-{name}") for name in ("one", "two"))
    won = one.trial("best").score
    assert won > 0.3, "it learned to answer, so that equality says something"
    assert two.end["untouched"]["dpo"]["score"] == pytest.approx(won)
    (pair,) = two.facts["sweep"]["pairs"]
    assert pair["base"] == str((folder / "runs/mini/mini-one/merged").resolve())
    assert one.facts["sweep"]["pairs"][0]["base"] == "builtin:tiny"


def test_merged_weights_say_what_the_adapter_says(finished):
    """The adapter is beside an output layer that shares its weights with the input's, which must not move."""
    folder, *_ = finished
    target = folder / "runs/mini/mini-one/merged"
    model = transformers.AutoModelForCausalLM.from_pretrained(target)
    tiny = load("builtin:tiny").model
    assert torch.equal(model.get_input_embeddings().weight, tiny.get_input_embeddings().weight)
    assert not torch.equal(model.get_output_embeddings().weight, tiny.get_input_embeddings().weight)
    base = load(str(target.resolve()))
    host = Host(base)
    found = host.evaluate_untouched(SWEEP.phases["one"].pairs[0].learner.build(base, TASK, 0))
    host.shut()
    assert found.items == list(Run.read(folder / "runs/mini/mini-one").trial("best").items)


def test_resuming_leaves_the_finished_phase_alone(finished):
    folder, _, second, before = finished
    assert times(folder) == before
    assert "mini-one: 1 trials" not in second
    assert "mini-two: 1 trials" in second
    assert not yaml.safe_load((folder / "runs/mini/mini-two/end.yaml").read_text())["interrupted"]


PROGRAM = """
from sweeps.cli.main import run
from tests.support.chain_script import SWEEP

result = run(SWEEP, name="mini", resume=True, set=["beta=0.2"], learner=["dpo"], mirror={mirror!r})
print("RESULT", result.folder, result.ended, len(result.trials))
"""


def test_from_python_a_chain_gives_the_result_of_its_last_phase(finished):
    folder, *_, before = finished
    (folder / "program.py").write_text(PROGRAM.format(mirror=f"file://{folder}/mirror"))
    told = script_here(folder, folder / "program.py").stdout
    assert "RESULT runs/mini/mini-two finished 1" in told
    assert times(folder) == before, "nothing was trained again"


def test_another_machine_goes_on_from_the_mirror(finished, tmp_path):
    """It has the first phase, finished, and of the second nothing: that one is made there, on the winner fetched."""
    shutil.copytree(finished[0] / "mirror/mini-one", tmp_path / "mirror/mini-one")
    flags = [*FLAGS, "--resume", "--mirror", f"file://{tmp_path}/mirror"]
    told = sweep_here(tmp_path, *flags, script=SCRIPT).stdout
    assert f"fetched runs/mini/mini-one from file://{tmp_path}/mirror" in told
    assert "mini-one: 1 trials" not in told
    one, two = (Run.read(tmp_path / f"runs/mini/mini-{name}") for name in ("one", "two"))
    assert two.end["untouched"]["dpo"]["score"] == pytest.approx(one.trial("best").score)
    elsewhere = ["--name", "unheard-of", "--resume", "--mirror", f"file://{tmp_path}/mirror"]
    refused = sweep_here(tmp_path, *elsewhere, script=SCRIPT, check=False)
    assert refused.returncode == 2
    assert "unheard-of-one, nor is it in --mirror" in refused.stderr


def test_a_budget_is_the_chains(tmp_path, finished):
    """30 of 90 seconds and 1.5 of 6 dollars are spent, and two phases are left; then nothing is."""
    flags, _ = read(SWEEP.first, ["--time-budget-s", "90", "--max-cost", "6", "--minutes", "2"])
    (tmp_path / "dollars.txt").write_text("1.5")
    assert phase_budget(flags, 30.0, [tmp_path], left=2) == {"time_budget_s": 30.0, "minutes": 0.75, "max_cost": 2.25}
    shutil.copytree(finished[0] / "runs/mini/mini-one", tmp_path / "runs/mini/mini-one")
    (tmp_path / "runs/mini/mini-one/dollars.txt").write_text("5.0")
    done = sweep_here(tmp_path, *FLAGS, "--resume", "--max-cost", "5", script=SCRIPT, check=False)
    assert done.returncode == 3
    assert "budget is used up, and two has no score yet" in done.stdout
    assert not (tmp_path / "runs/mini/mini-two").exists()


def test_a_phase_that_the_budget_ended_before_any_score_is_gone_on_with(tmp_path, ray_session):
    alone = ["--phase", "one", "--name", "short"]
    done = sweep_here(tmp_path, *alone, "--time-budget-s", "2", script=SCRIPT, check=False)
    assert done.returncode == 3
    assert "budget is used up, and one has no score yet: go on with --resume" in done.stdout
    sweep_here(tmp_path, *alone, "--time-budget-s", "300", "--resume", script=SCRIPT)
    assert Run.read(tmp_path / "runs/short/short-one").trial("best").history


def test_flags_reach_the_phase_that_knows_them(finished):
    folder, *_ = finished
    one, two = (Run.read(folder / f"runs/mini/mini-{name}").facts["sweep"] for name in ("one", "two"))
    assert [pair["learner"]["name"] for pair in (*one["pairs"], *two["pairs"])] == ["lora", "dpo"]
    assert "beta" in str(two["space"])
    assert "beta" not in str(one["space"])


def test_a_merge_that_broke_off_is_made_again(finished, tmp_path):
    copy = tmp_path / "mini-one"
    shutil.copytree(finished[0] / "runs/mini/mini-one", copy)
    (copy / "merged/README.md").unlink()
    (copy / "merged/model.safetensors").write_bytes(b"half")
    assert merge_winner(copy) == str((copy / "merged").resolve())
    transformers.AutoModelForCausalLM.from_pretrained(copy / "merged")
    before = (copy / "merged/model.safetensors").stat().st_mtime_ns
    merge_winner(copy)
    assert (copy / "merged/model.safetensors").stat().st_mtime_ns == before, "once"


def test_without_a_winner_there_is_no_next_phase(finished, tmp_path):
    copy = tmp_path / "mini-one"
    copy.mkdir()
    shutil.copy(finished[0] / "runs/mini/mini-one/sweep.yaml", copy)
    with pytest.raises(BadInput, match=r"no trial of .* has a score yet"):
        merge_winner(copy)
