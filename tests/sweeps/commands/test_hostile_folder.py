"""Somebody else's run folder is data: whatever it holds, no command runs code that it names or brings.

Each kind of folder plants code that creates a file. Every command of `espalier`, `--like` and `--resume` get it.
"""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sweeps.cli.main import console, main
from search_spaces import cot
from sweeps.persistence.provenance import describe
from sweeps.persistence.study import storage_of
from sweeps.results.leaderboard import write_all
from sweeps.results.records import UNTOUCHED, Final, TrialRecord
from sweeps.results.run_folder import SWEEP_FILE
from sweeps.results.tables import FINALISTS, finalists_parquet
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.spec.sweep import Sweep
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from tests.support.planted import Planted
from trainables.core import Pair
from trainables.learners.lm.cot import CotConfig
from trainables.models.loading import BUILTIN, load
from trainables.runtime.trial import open_learner
from trainables.tasks.strategyqa.task import StrategyQaTask

TASK = StrategyQaTask(train_size=50, search_size=4, test_size=6)
PAIR = Pair(CotConfig(steps_per_round=1), TASK, "builtin:tiny")
SWEEP = Sweep("run", (PAIR,), cot.SPACE, finalists=0)
CODE = "from pathlib import Path\nPath({!r}).touch()\n"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    learner = open_learner(PAIR, seed=1)
    learner.round()
    learner.save(str(folder))
    learner.close()
    load.cache_clear()
    return folder


@pytest.fixture
def run(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sweep with one finalist, in a folder where the commands start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweeps.spec.trust._allowed", set(), raising=False)
    monkeypatch.setattr("sys.path", [*sys.path])
    folder = tmp_path / "runs/run"
    shutil.copytree(adapter, folder / "best")
    facts = describe(SWEEP) | {"guards": [], "command": ["script.py"]}
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(facts, sort_keys=False))
    OptunaSearcher(SearchSettings.of_sweep(SWEEP), storage_of(folder))
    write_tables(folder, None)
    return folder


def write_tables(folder: Path, start: str | None) -> None:
    params = TrialParams("cot", {**SWEEP.defaults()[0].fields, "steps_per_round": 1}, start)
    history = [{"round": 1, "score": 0.5, "loss": 1.0, "diverged": False, "time_s": 1.0, "seconds": 1.0, "at": 1.0}]
    record = TrialRecord("t0", 0, params, "finished", TrialHistory(tuple(history)), 4)
    write_all(folder, [record], baselines={}, rounds=1)
    said = [TASK.rationale_answer(example) for example in TASK.test()]
    final = Final("trial 0", 0.5, np.ones((1, len(said))), "t0", 1, (said,))
    base = Final(UNTOUCHED, None, np.zeros((1, len(said))), None, None, (["?"] * len(said),))
    (folder / FINALISTS).write_bytes(finalists_parquet([final, base], TASK.test()))


def change(run: Path, part: str | None, **values: Any) -> None:
    """Change the pair in sweep.yaml, or its learner or task."""
    facts = yaml.safe_load((run / SWEEP_FILE).read_text())
    pair = facts["sweep"]["pairs"][0]
    (pair[part] if part else pair).update(values)
    (run / SWEEP_FILE).write_text(yaml.safe_dump(facts))


def a_command_as_a_class(run: Path, leak: Path) -> None:
    change(run, "learner", **{"class": "subprocess.Popen"}, fields={"args": f"touch {leak}", "shell": True})


def a_command_as_a_task(run: Path, leak: Path) -> None:
    change(run, "task", **{"class": "subprocess.Popen"}, fields={"args": ["touch", str(leak)]})


def a_class_of_the_project_that_is_no_learner(run: Path, leak: Path) -> None:
    change(run, "learner", **{"class": "trainables.learners.lm.supervised.SupervisedLearner"}, fields={})


def a_module_beside_the_folder(run: Path, leak: Path) -> None:
    Path("beside.py").write_text(CODE.format(str(leak)))
    change(run, "learner", **{"class": "beside.Config"}, fields={})


def a_base_with_code(run: Path, leak: Path) -> None:
    model = run / "model"
    shutil.copytree(BUILTIN["tiny"], model)
    (model / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}'
    )
    (model / "own.py").write_text(CODE.format(str(leak)) + "class Own:\n    pass\n")
    change(run, None, base=f"{model}:remote-code")


def a_start_elsewhere(start: str) -> Callable[[Path, Path], None]:
    def hostile(run: Path, leak: Path) -> None:
        pickles(run, leak)
        outside = run.parents[1] / "trial-0-round-1.pt"
        outside.write_bytes(pickle.dumps(Planted(leak)))
        (run / "clones/trial-0-round-2.pt").symlink_to(outside)
        write_tables(run, start.format(outside=outside))

    return hostile


def pickles(run: Path, leak: Path) -> None:
    """A pickle wherever something was, is or may be unpickled."""
    bad = pickle.dumps(Planted(leak))
    names = ("clones/trial-0-round-1.pt", "tune/t0/checkpoint_000000/state.pt", "tune/t0/error.pkl", "tune/tuner.pkl")
    names += ("tune/t0/checkpoint_000000/_dict_checkpoint.pkl", "tune/searcher-state-1.pkl", "best/adapter_model.bin")
    names += ("tune/search_gen_state-1.json", "tune/experiment_state-1.json", "tune/t0/params.pkl")
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(bad)
    with zipfile.ZipFile(run / "snapshot.zip", "w") as whole:
        for name in ("searcher-state-1.pkl", "search_gen_state-1.json"):
            whole.writestr(name, bad)
    write_tables(run, "clones/trial-0-round-1.pt")


def a_snapshot_that_leads_out(run: Path, leak: Path) -> None:
    with zipfile.ZipFile(run / "snapshot.zip", "w") as whole:
        whole.writestr(f"../../../{leak.name}", b"")
        whole.writestr(str(leak), b"")


def links(run: Path, leak: Path) -> None:
    mine = run.parents[1] / "mine"
    mine.mkdir()
    (mine / "kept.pkl").touch()
    (run / "tune").symlink_to(mine)


def an_adapter_that_names_a_module(run: Path, leak: Path) -> None:
    """PEFT imports `megatron_core` of an adapter with a `megatron_config`, if it is a module of Megatron."""
    Path("beside_peft.py").write_text(CODE.format(str(leak)))
    sys.path.append(str(Path.cwd()))  # as `python -m` does
    file = run / "best/adapter_config.json"
    config = json.loads(file.read_text()) | {"megatron_config": {"x": 1}, "megatron_core": "beside_peft"}
    file.write_text(json.dumps(config))


def a_name_that_leads_out(run: Path, leak: Path) -> None:
    facts = yaml.safe_load((run / SWEEP_FILE).read_text())
    facts["sweep"]["name"] = f"../../{leak.name}"
    (run / SWEEP_FILE).write_text(yaml.safe_dump(facts))


HOSTILE = {
    "class": a_command_as_a_class,
    "task": a_command_as_a_task,
    "no learner": a_class_of_the_project_that_is_no_learner,
    "module beside": a_module_beside_the_folder,
    "remote code": a_base_with_code,
    "start above": a_start_elsewhere("../../trial-0-round-1.pt"),
    "start absolute": a_start_elsewhere("{outside}"),
    "start by clones": a_start_elsewhere("clones/../../../trial-0-round-1.pt"),
    "start linked": a_start_elsewhere("clones/trial-0-round-2.pt"),
    "pickles": pickles,
    "snapshot out": a_snapshot_that_leads_out,
    "links": links,
    "adapter": an_adapter_that_names_a_module,
    "name": a_name_that_leads_out,
}
COMMANDS = {
    "status": ["status", "runs/run"],
    "report": ["report", "runs/run"],
    "stop": ["stop", "0", "--run", "runs/run"],
    "clone": ["clone", "0", "learning_rate=0.001", "--run", "runs/run"],
    "reproduce": ["reproduce", "runs/run"],
    "reproduce 0": ["reproduce", "runs/run", "--trial", "0", "--to", "out/again"],
    "export": ["export", "runs/run", "--to", "out/taken"],
    "merge": ["export", "runs/run", "--to", "out/merged", "--merge"],
    "submission": ["export", "runs/run", "--submission", "out.json"],
    "judge": ["judge", "runs/run", "--trials", "best", "untouched"],
    "attribute": ["attribute", "runs/run", "--questions", "1", "--steps", "1"],
}
FLAGS = {"like": ["--like", "runs/run", "--plan"], "resume": ["--name", "run", "--resume", "--no-report"]}


def called(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command line in this process, and return its exit status."""
    script = not argv[0].isalpha()
    monkeypatch.setattr(sys, "argv", ["script.py" if script else "espalier", *argv])
    try:
        main(SWEEP) if script else console()
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_command_runs_what_a_folder_brings(
    kind: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leak = run.parents[2] / f"{run.parents[1].name}-leak"  # outside all that a command may write to
    monkeypatch.setattr("sweeps.cli.main._plan", lambda sweeps, flags: "finished")  # only after `--like` was read
    HOSTILE[kind](run, leak)
    before = {path for path in run.parents[1].rglob("*") if "runs" not in path.parts}
    for name, argv in (COMMANDS | FLAGS).items():
        if name == "resume" and kind in ("name", "adapter"):
            continue  # it reads neither, so the sweep would run
        status = called(argv, monkeypatch)
        said = capsys.readouterr().err
        assert not leak.exists(), f"{name} ran what the folder brought"
        assert status in ((2,) if name == "resume" else (0, 1, 2)), (name, said)
        if status == 2:
            lines = [line for line in said.splitlines() if line.startswith(("espalier:", "script.py:"))]
            assert len(lines) == 1, (name, said)
            assert "Traceback" not in said
    after = {path for path in run.parents[1].rglob("*") if "runs" not in path.parts}
    assert before <= after, "nothing of the user's was deleted"


def test_what_the_user_trusts_is_run(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The plants work: with `--trust`, the same folders run their code."""
    leak = tmp_path / "leak"
    a_module_beside_the_folder(run, leak)
    assert called(["reproduce", "runs/run", "--trust", "beside.py"], monkeypatch) == 2, "it has no such class"
    assert leak.exists()
