"""Every sweep script in miniature, from a foreign folder; the arena's is in `test_finished_sweep.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import transformers

from sweeps.commands.export import ExportOptions, export
from sweeps.commands.judging.command import judge
from sweeps.results.checkpoint_hash import checkpoint_hash
from sweeps.results.run_folder import Run
from sweeps.tuning.recorder import hashes_of
from tests.support.driving import MINIATURES, sweep_here
from tests.support.miniature_kit import check_miniature
from trainables.bad_input import BadInput
from trainables.tasks.arc.data import load_splits

ROOT = Path(__file__).parents[2]


def test_every_script_has_a_miniature():
    assert set(MINIATURES) == {p.stem for p in (ROOT / "sweeps").glob("*.py")} - {"__init__"}


def test_arc_in_miniature(tmp_path, ray_session):
    out = sweep_here(tmp_path, *MINIATURES["arc"], script=ROOT / "sweeps/arc.py").stdout
    check_miniature("arc", tmp_path, out)
    run = Run.read(tmp_path / "runs/arc")
    lenses, programs = "untrained percell (lenses alone)", "untrained ensemble (programs and lenses alone)"
    before = {one.name: one.score for one in run.confirmation.untouched}
    assert before.keys() == {lenses, programs}
    assert before[programs] > before[lenses], "what is known beforehand solves some tasks"
    assert {one.before for one in run.finals if not one.is_untouched} <= before.keys()
    assert all(len(one.scores) == 1 for one in run.finals), "each question has a network of its own: one seed"
    assert f"points from the {programs}" in out or f"{programs} is among them" in out
    check_submission(tmp_path / "runs/arc", tmp_path / "submission.json")


def test_style_in_miniature(tmp_path, ray_session):
    out = sweep_here(tmp_path, *MINIATURES["style"], script=ROOT / "sweeps/style.py").stdout
    check_miniature("style", tmp_path, out)
    assert "rows: 92 (train 32, search 30, test 30); layout: generated 92" in out
    table = pd.read_parquet(tmp_path / "runs/style/trials.parquet")
    assert table.epoch.tolist() == table["round"].tolist(), "a round was set to be an epoch, whatever the batch"
    assert table.forgetting_score.between(0, 1).all()
    judge(tmp_path / "runs/style")
    report = (tmp_path / "runs/style/judged.md").read_text()
    best = checkpoint_hash(tmp_path / "runs/style/best")
    assert best in report
    assert best in hashes_of(tmp_path / "runs/style").values(), "every finalist's hash is kept, as its weights may go"
    assert "against" in report


def test_strategyqa_in_miniature(tmp_path, ray_session):
    out = sweep_here(tmp_path, *MINIATURES["strategyqa"], script=ROOT / "sweeps/strategyqa.py").stdout
    runs = [Run.read(tmp_path / f"runs/strategyqa/strategyqa-{phase}") for phase in ("sft", "cot")]
    merged = runs[0].folder / "merged"
    assert runs[1].facts["sweep"]["pairs"][0]["base"] == str(merged.resolve())
    transformers.AutoModelForCausalLM.from_pretrained(merged)
    for run in runs:
        assert len(run.records) == 2
        assert {one.status for one in run.records} <= {"finished", "pruned"}
        assert run.facts["sweep"]["name"] == run.folder.name
        assert "untouched base" in [one.name for one in run.finals]
    told = out[out.index("phases:") :].splitlines()
    assert [line.split(":")[0].strip() for line in told[1:3]] == ["strategyqa-sft", "strategyqa-cot"]
    assert "of the test split" in told[1]
    assert re.match(r"  strategyqa-cot less strategyqa-sft: [+-]\d+\.\d points \(p = ", told[3])


def test_rl_in_miniature(tmp_path, ray_session):
    sweep_here(tmp_path, *MINIATURES["rl"], script=ROOT / "sweeps/rl.py")
    shown, rewarded = (Run.read(tmp_path / f"runs/rl/rl-{phase}") for phase in ("sft", "grpo"))
    assert rewarded.facts["sweep"]["pairs"][0]["base"] == str((shown.folder / "merged").resolve())
    table = pd.read_parquet(rewarded.folder / "trials.parquet")
    assert {"reward", "frac_reward_zero_std", "entropy", "kl", "completions/mean_length"} <= {*table}
    learner_of = {one.trial_id: one.pair for one in rewarded.records}
    assert sorted(learner_of.values()) == ["grpo", "lora"], "rewards beside more of the same answers"
    own = table[table.trial_id.map(learner_of) == "grpo"]
    assert own.reward.between(0, 1).all()
    assert own.kl.notna().all(), "also without beta"
    assert {one.status for one in rewarded.records} <= {"finished", "pruned"}
    export(rewarded.folder, ExportOptions(to=tmp_path / "exported"))
    assert (tmp_path / "exported/adapter_config.json").is_file()


def check_submission(run, file):
    """The official file, judged by the official rule from the official answers, scores what the finalist scored."""
    export(run, ExportOptions(submission=file))
    left = Run.read(run)
    said = json.loads(file.read_text())
    tests = {key: [target.tolist() for _, target in pairs.tests] for key, pairs in load_splits("arc1")["test"].items()}
    asked = left.answers[(left.answers.trial_id == left.trial("best").trial_id) & (left.answers.seed == 0)]
    assert said.keys() == {*asked.key} <= tests.keys()
    for row in asked.itertuples():
        tries = [(one["attempt_1"], one["attempt_2"]) for one in said[row.key]]
        assert len(tries) == len(tests[row.key])
        assert row.score == all(right in pair for right, pair in zip(tests[row.key], tries, strict=True))
    with pytest.raises(BadInput, match="give --to FOLDER, or --submission FILE"):
        export(run, ExportOptions())
