"""A chain of sweeps: what it refuses, which phases it has, what each knows; real ones run in `tests/e2e`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeps.cli.main import main
from sweeps import strategyqa
from sweeps.cli.chain_runner import on_base, phase_sweeps, summary
from sweeps.cli.flags import read
from sweeps.results.run_folder import Run
from tests.support import toy_sweep
from tests.support.chain_script import SWEEP
from tests.support.looking import LookingConfig
from tests.support.report_kit import confirmed, final, folder, questions, trial
from tests.support.toys import Digits, ToyConfig
from trainables.core import Pair


def test_a_phase_is_summed_up_over_all_seeds_of_its_winner(tmp_path):
    """Not by the seed whose adapter is kept, which is one of three."""
    (line,) = summary([confirmed(tmp_path / "one")])[1:]
    run = Run.read(tmp_path / "one")
    (final,) = [one for one in run.finals if one.trial_id == run.trial("best").trial_id]
    assert final.scores[0].mean() != final.score
    assert line.startswith(f"  one: {100 * final.score:.1f} %")
    assert line.endswith("of the test split")


def test_a_phase_that_did_harm_is_called_so(tmp_path):
    asked = questions()
    good, bad = (folder(tmp_path / name, [trial(0, 0.5)], finals=[final("trial 0", rate, "t0", asked)], asked=asked)
                 for name, rate in (("good", 0.9), ("bad", 0.3)))  # fmt: skip
    *_, harmed = summary([good, bad])
    assert harmed.startswith("  bad less good: -")
    assert harmed.endswith("): this phase made it worse")
    assert "worse" not in "".join(summary([bad, good]) + summary([good, good]))


def refused(capsys, *argv, of=SWEEP):
    with pytest.raises(SystemExit) as end:
        main(of, [*argv])
    said = capsys.readouterr().err.strip()
    assert end.value.code == 2
    assert len(said.splitlines()) == 1
    return said


def test_what_cannot_be_is_refused_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--phase three: this script's phases are one, two, alone" in refused(capsys, "--phase", "three")
    assert "alone starts from the base; run it by itself" in refused(capsys, "--phase", "one", "alone")
    assert "say with --phase which sweep" in refused(capsys, "--like", "runs/mini")
    assert "runs/nowhere is not a sweep's folder" in refused(capsys, "--phase", "one", "--like", "runs/nowhere")
    assert "--resume: there is no chain in runs/mini" in refused(capsys, "--resume")
    assert "--learner nobody: this sweep's learners are lora" in refused(capsys, "--learner", "nobody")
    assert "'nothing' is not a field" in refused(capsys, "--set", "nothing=1")
    assert "this sweep's learners are lora" in refused(capsys, "--phase", "one", "--learner", "dpo")
    assert "--phase one: toy has no phases" in refused(capsys, "--phase", "one", of=toy_sweep.SWEEP)
    (tmp_path / "runs/mine").mkdir(parents=True)
    assert "--name mine: runs/mine exists" in refused(capsys, "--name", "mine")
    assert [*tmp_path.rglob("*.yaml")] == [], "nothing was started"


@pytest.mark.parametrize(
    ("argv", "names"),
    [([], ["one", "two"]), (["--phase", "two"], ["two"]), (["--phase", "two", "one"], ["one", "two"]),
     (["--phase", "alone"], ["alone"])],
)  # fmt: skip
def test_phases_are_chosen_and_come_in_the_chains_order(argv, names):
    flags, task = read(SWEEP.first, argv)
    sweeps = phase_sweeps(SWEEP, flags, task)
    assert [one.name for one in sweeps] == names
    for one in sweeps:
        one.validate()


def test_axes_of_one_phase_are_fixed_there_and_shared_ones_everywhere():
    flags, task = read(SWEEP.first, ["--set", "beta=0.3", "dpo.beta_start=0.2", "learning_rate=0.004", "r=4"])
    fixed = [
        {axis: values.choices for axis, values in one.joined_space().axes.items()}
        for one in phase_sweeps(SWEEP, flags, task)
    ]
    both = {"learning_rate": (0.004,), "r": (4,)}
    assert fixed == [both, both | {"beta": (0.3,), "beta_start": (0.2,)}]


def test_a_plan_has_every_phase(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    learners = {"one": ToyConfig(), "two": LookingConfig()}
    phases = {name: replace(toy_sweep.SWEEP, name=name, pairs=(Pair(one, Digits()),)) for name, one in learners.items()}
    main(replace(SWEEP, phases=phases), ["--plan"])
    told = capsys.readouterr().out
    for name, learner in learners.items():
        assert f"sweep {name}: 6 trials" in told
        assert f"probe of {learner.name}:" in told
    assert "sweep alone" not in told
    assert [*tmp_path.iterdir()] == []


def test_a_learner_may_start_anew_beside_those_that_go_on():
    """In the second phase; in a first one there is no other base to start from."""
    chain = strategyqa.SWEEP
    own = chain.phases["cot"]
    both, alone = (on_base(own, chain.from_base, base) for base in ("merged", None))
    assert {pair.learner.name: pair.base for pair in both.pairs} == {"cot": "merged", "cot_anew": "builtin:tiny"}
    assert {pair.learner.name: pair.base for pair in alone.pairs} == {"cot": "builtin:tiny"}
    both.validate()
    alone.validate()
