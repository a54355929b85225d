"""Every sweep script in miniature, from a foreign folder; and what the README tells people to type."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import peft
import pytest
import transformers

from sweeps import arc, arena, strategyqa, style
from sweeps.engine.chain import Chain, parsed
from sweeps.engine.checks import BadInput
from sweeps.engine.flags import parse, read
from sweeps.engine.record import hashes_of
from sweeps.engine.sweep import Sweep
from sweeps.results.files import checkpoint_hash
from sweeps.results.run import Run
from sweeps.verbs.export import export
from sweeps.verbs.judge import judge
from tests.arc_files import recolour, write_all_splits
from tests.driving import MINIATURES, environment, study, sweep
from trainables.tasks.arc_data import load_splits

ROOT = Path(__file__).parents[1]


def test_every_script_has_a_miniature():
    assert set(MINIATURES) == {p.stem for p in (ROOT / "sweeps").glob("*.py")} - {"__init__"}


def test_arc_in_miniature(tmp_path):
    check_miniature("arc", tmp_path, sweep(tmp_path, *MINIATURES["arc"], script=ROOT / "sweeps/arc.py").stdout)
    check_submission(tmp_path / "runs/arc", tmp_path / "submission.json")


def test_style_in_miniature(tmp_path):
    out = sweep(tmp_path, *MINIATURES["style"], script=ROOT / "sweeps/style.py").stdout
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


def test_strategyqa_in_miniature(tmp_path):
    out = sweep(tmp_path, *MINIATURES["strategyqa"], script=ROOT / "sweeps/strategyqa.py").stdout
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


def check_submission(run, file):
    """The official file, judged by the official rule from the official answers, scores what the finalist scored."""
    export(run, submission=file)
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
        export(run)


def check_miniature(name, folder, out):
    """What every sweep leaves behind; the arena's is run in `test_takeaway.py`."""
    trials = study(folder, name).trials
    samples = int(MINIATURES[name][1])
    assert len(trials) == samples
    assert {t.user_attrs["ended"] for t in trials} <= {"finished", "pruned"}
    run = folder / "runs" / name
    for file in ("leaderboard.md", "leaderboard.csv", "trials.parquet", "sweep.yaml", "optuna.db", "best/config.yaml"):
        assert (run / file).is_file(), file
    table = pd.read_parquet(run / "trials.parquet")
    assert table["score"].between(0, 1).all()
    assert "MLflow: " in out
    assert "train the winner again" in out
    told = (run / "leaderboard.md").read_text().partition("## Finalists")[2]
    assert "points above test scores" in told
    assert told.count("| trial ") in ({3, 4} if name == "arena" else {1, 2}), "the best, and every default"
    if name == "arena":
        assert "report: runs/arena/report.html" in out
        page = (run / "report.html").read_text()
        assert all(f"{100 * score:.1f} %" in page for score in pd.read_csv(run / "leaderboard.csv").score)
        plots = {path.stem for path in (run / "plots").glob("*.png")}
        assert {"curves", "history", "pareto", "timeline", "kinds"} <= plots
        (stored,) = folder.glob("mlartifacts/*/artifacts/plots")
        assert {path.stem for path in stored.iterdir()} == plots, "MLflow has them, too"
        assert "| untouched base |" in told
        assert "untouched base" in out
        assert {"lora", "soft_prompt", "hybrid"} == set(table["learner"]), "each pair's default is tried first"
        model = transformers.AutoModelForCausalLM.from_pretrained(ROOT / "trainables/builtin/tiny")
        folders = [p.parent for p in (run / "best").rglob("adapter_config.json")]
        assert folders
        for folder in folders:
            peft.PeftModel.from_pretrained(model, folder)


@pytest.mark.parametrize("module", [arena, arc, strategyqa, style], ids=lambda module: module.__name__)
def test_scripts_are_short_and_valid(module):
    assert len(Path(module.__file__).read_text().splitlines()) < 60
    given = module.SWEEP
    for one in [given] if isinstance(given, Sweep) else [*given.phases.values(), *given.apart.values()]:
        one.validate()


@pytest.mark.parametrize("script", [arc.SWEEP, strategyqa.SWEEP.first, style.SWEEP], ids=["arc", "strategyqa", "style"])
@pytest.mark.parametrize("spelling", ["--data", "--task.data"])
def test_data_has_a_short_spelling_wherever_a_task_has_data(script, spelling, tmp_path):
    """The script's own task, which then differs in its data alone; the arena's, which is generated, has none."""
    assert read(script, [spelling, "arc2", "--rounds", "5"])[1].data.endswith("arc2")
    flags, task = read(script, ["--rounds", "5", f"{spelling}={tmp_path}"])
    assert flags.rounds == 5
    assert task == dataclasses.replace(script.pairs[0].task, data=str(tmp_path))
    with pytest.raises(BadInput, match="Unrecognized options: --data"):
        read(arena.SWEEP, ["--data", "arc2"])


def readme_commands(start):
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


@pytest.mark.parametrize("command", readme_commands("python sweeps/"))
def test_readme_flags_exist(command, tmp_path):
    _, script, *flags = shlex.split(command)
    module = {"arena": arena, "arc": arc, "strategyqa": strategyqa, "style": style}[Path(script).stem]
    if "my_tasks.json" in flags:
        flags[flags.index("my_tasks.json")] = write_all_splits(tmp_path / "mine", recolour())
    if isinstance(module.SWEEP, Chain):
        given, task = read(module.SWEEP.first, flags)
        assert parsed(module.SWEEP, given, task)
    else:
        given, changed = parse(module.SWEEP, flags)
        assert changed.name == module.SWEEP.name
    assert (given.plan, given.resume) == ("--plan" in flags, "--resume" in flags)


def test_readme_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = readme_commands("make ")
    assert {"make arc", "make test"} <= set(targets)
    for line in targets:
        assert re.search(rf"^{line.split()[1]}:", makefile, re.M), line


def test_a_missing_package_is_told_in_one_line(tmp_path):
    """`python sweeps/arc.py` with an interpreter that has nothing installed."""
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(ROOT / "sweeps/arc.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode != 0
    assert "source .venv/bin/activate" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
