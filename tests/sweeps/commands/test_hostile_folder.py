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

import pytest
import yaml

from sweeps.results.run_folder import SWEEP_FILE
from tests.support.commands_kit import COMMANDS, FLAGS, called, change, write_tables
from tests.support.planted import Planted
from trainables.models.loading import BUILTIN

CODE = "from pathlib import Path\nPath({!r}).touch()\n"


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


def an_adapter_of_another_kind(run: Path, leak: Path) -> None:
    """X-LoRA's configuration names further adapters, which PEFT loads from any folder or repository."""
    file = run / "best/adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peft_type": "XLORA", "adapters": {"a": str(leak)}}))


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
    "kind of adapter": an_adapter_of_another_kind,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_command_runs_what_a_folder_brings(
    kind: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leak = run.parents[2] / f"{run.parents[1].name}-leak"  # outside all that a command may write to
    monkeypatch.setattr("sweeps.cli.main._plan", lambda sweeps, flags, argv: "finished")  # only after `--like` was read
    HOSTILE[kind](run, leak)
    before = {path for path in run.parents[1].rglob("*") if "runs" not in path.parts}
    for name, argv in (COMMANDS | FLAGS).items():
        if name == "resume" and kind in ("name", "adapter", "kind of adapter"):
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


def test_a_card_has_no_line_of_a_file_that_only_the_folder_names(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers publish it. The card shows a question of the test split."""
    private = run.parents[1] / "private.jsonl"
    rows = [{"question": f"Is secret {number} mine?", "answer": number % 2 == 0} for number in range(60)]
    private.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert called(["export", "runs/run", "--to", "out/own"], monkeypatch) == 0
    assert "question = " in Path("out/own/README.md").read_text()
    fields = yaml.safe_load((run / SWEEP_FILE).read_text())["sweep"]["pairs"][0]["task"]["fields"]
    change(run, "task", fields=fields | {"data": str(private)})
    assert called(["export", "runs/run", "--to", "out/taken"], monkeypatch) == 0
    card = Path("out/taken/README.md").read_text()
    assert "AutoModelForCausalLM" in card
    assert "secret" not in card


@pytest.mark.parametrize("damage", ["kind", "weights"])
def test_an_adapter_that_no_learner_saved_is_refused(
    damage: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if damage == "kind":
        an_adapter_of_another_kind(run, run / "elsewhere")
    else:
        (run / "best/adapter_model.safetensors").write_bytes(b"no tensors")
    for name in ("merge", "attribute"):
        assert called(COMMANDS[name], monkeypatch) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert ("peft_type 'XLORA' is not one of LORA" if damage == "kind" else "is damaged") in said


def test_what_the_user_trusts_is_run(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The plants work: with `--trust`, the same folders run their code."""
    leak = tmp_path / "leak"
    a_module_beside_the_folder(run, leak)
    assert called(["reproduce", "runs/run", "--trust", "beside.py"], monkeypatch) == 2, "it has no such class"
    assert leak.exists()
