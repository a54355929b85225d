"""A `sweep.yaml` gives its sweep back; one of an earlier version is read, or refused with a commit that reads it."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.persistence.provenance import describe
from sweeps.results.trial_params import TrialParams
from sweeps.spec.deserialize import rebuild
from sweeps.spec.trust import apply_trust, trust_flags
from tests.support.toy_sweep import SWEEP as TOY
from trainables.bad_input import BadInput
from trainables.core import LearnerConfig, Pair, Task

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parents[2] / "golden" / "configurations-df134d1.yaml"
OLD: dict[str, list[dict[str, Any]]] = yaml.safe_load(GOLDEN.read_text())
SPACE = {"axes": {"learning_rate": {"type": "float", "low": 0.001, "high": 0.1, "log": True}}, "conditions": {}}


def facts(learner: dict[str, Any], task: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The facts of a sweep of an earlier version."""
    pair = {"learner": learner, "task": task, "base": "builtin:tiny"}
    sweep = {"name": "old", "pairs": [pair], "optional": [], "space": SPACE, "num_samples": 4, "rounds": 2, "first": []}
    return {"sweep": copy.deepcopy(sweep | more), "commit": "df134d1c0ffe-dirty"}


def entry(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in OLD[kind] if one["name"] == name)


def made(learner: dict[str, Any], task: dict[str, Any]) -> Pair:
    (pair,) = rebuild(facts(learner, task)).pairs
    return pair


@pytest.mark.parametrize("learner", OLD["learners"], ids=lambda one: one["name"])
def test_every_learner_of_before_the_move_is_made_again(learner: dict[str, Any]) -> None:
    config = made(learner, entry("tasks", "arena")).learner
    assert isinstance(config, LearnerConfig)
    assert config.name == learner["name"], "even if its class has another name today"
    held = {name: list(v) if isinstance(v := getattr(config, name), tuple) else v for name in learner["fields"]}
    assert held == learner["fields"]


@pytest.mark.parametrize("task", OLD["tasks"], ids=lambda one: one["name"])
def test_every_task_of_before_the_move_is_made_again(task: dict[str, Any]) -> None:
    again = made(entry("learners", "lora"), task).task
    assert isinstance(again, Task)
    assert (again.name, type(again).__name__) == (task["name"], task["class"].rpartition(".")[2])


def test_a_sweep_of_several_learners_with_first_trials_is_made_again() -> None:
    """Also what it tried first, whose axes have the learners' names before them."""
    old = yaml.safe_load(yaml.safe_dump(ARENA.to_dict()))
    old["first"] = [{"learner": "lora", "lora.r": 8, "lora.learning_rate": 0.01}]
    for pair in old["pairs"]:
        pair["learner"]["class"] = entry("learners", pair["learner"]["name"])["class"]
        pair["task"]["class"] = "trainables.tasks.arena.ArenaTask"
    again = rebuild({"sweep": old})
    assert again.pairs == ARENA.pairs
    assert again.first == (TrialParams("lora", {"r": 8, "learning_rate": 0.01}),)
    assert again.to_dict()["first"] == old["first"], "named as before"
    assert {pair.learner.name: again.space_of(pair) for pair in again.pairs} == {
        name: dict(ARENA.space)[name] for name in ARENA.pair_names
    }


@pytest.mark.parametrize(
    ("part", "change", "error"),
    [
        (
            "learner",
            {"fields": {"r": 8, "rang": 4}},
            "LoraConfig has no field 'rang' in this version, and the sweep has it at 4",
        ),
        (
            "learner",
            {"name": "gone", "class": "trainables.learners.gone.GoneConfig"},
            r"this version has no learner or task GoneConfig \(trainables.learners.gone.GoneConfig\)",
        ),
        ("learner", {"fields": {"lora_dropout": 7}}, "LoraConfig refuses the fields of the sweep"),
    ],
)
def test_what_cannot_be_made_again_is_refused_with_the_commit_that_can(part: str, change: Any, error: str) -> None:
    found = facts(entry("learners", "lora"), entry("tasks", "arena"))
    found["sweep"]["pairs"][0][part] |= change
    with pytest.raises(BadInput, match=error) as caught:
        rebuild(found)
    assert str(caught.value).endswith("git checkout df134d1c0ffe to read it")
    assert "\n" not in str(caught.value)


def test_a_setting_of_the_sweep_that_is_gone_is_named() -> None:
    with pytest.raises(BadInput, match="a sweep has no 'pruner' in this version; git checkout df134d1c0ffe"):
        rebuild(facts(entry("learners", "lora"), entry("tasks", "arena"), pruner="median"))


@pytest.mark.parametrize("recorded", ["my_learners", "my.own.my_learners", "__main__"])
def test_a_user_s_own_class_is_used_once_the_command_line_names_its_file(
    recorded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a learner of the project has the same name, and wherever the sweep imported it from."""
    (tmp_path / "neighbour.py").write_text("EXTRA = 7\n")
    (tmp_path / "my_learners.py").write_text(
        "from dataclasses import dataclass\nfrom trainables.learners.lm.lora import LoraConfig as Lora\n"
        "from neighbour import EXTRA\n"
        "@dataclass(frozen=True)\nclass LoraConfig(Lora):\n    name = 'mine'\n    extra: int = EXTRA\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweeps.spec.trust._modules", {})
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_learners", raising=False)
    mine = {"name": "mine", "class": f"{recorded}.LoraConfig", "fields": {}}
    with pytest.raises(BadInput, match=rf"class LoraConfig comes from module {recorded}, .* add --trust "):
        made(mine, entry("tasks", "arena"))
    assert "my_learners" not in sys.modules, "a file in the present folder is imported only by --trust"
    apply_trust([str(tmp_path / "my_learners.py")])
    config: Any = made(mine, entry("tasks", "arena")).learner
    assert (type(config).__module__, config.extra) == ("my_learners", 7)


def test_the_flags_that_a_sweep_prints_import_its_own_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a file in a package, whose relative imports need the package."""
    package = tmp_path / "mypackage/deep"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package.parent / "beside.py").write_text("EXTRA = 7\n")
    (package / "learners.py").write_text(
        "from dataclasses import dataclass\nfrom trainables.learners.lm.lora import LoraConfig as Lora\n"
        "from ..beside import EXTRA\n@dataclass(frozen=True)\nclass Own(Lora):\n    extra: int = EXTRA\n"
    )
    pair = made(entry("learners", "lora"), entry("tasks", "arena"))
    code = (
        "import sys; from pathlib import Path; from sweeps.spec.trust import apply_trust, trust_flags\n"
        "apply_trust(sys.argv[2:]); from mypackage.deep.learners import Own; from types import SimpleNamespace\n"
        "from trainables.tasks.arena.task import ArenaTask\n"
        "pair = SimpleNamespace(learner=Own(), task=ArenaTask(), base='builtin:tiny')\n"
        "print(Own().extra, *trust_flags([pair], Path('x.py')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--trust", "mypackage/deep/learners.py"],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == ["7", "--trust", "mypackage/deep/learners.py"], done.stderr

    assert trust_flags([pair], Path("x.py")) == [], "Espalier's own"
    monkeypatch.setattr("__main__.Own", type("Own", (type(pair.learner),), {"__module__": "__main__"}), raising=False)
    own = SimpleNamespace(learner=sys.modules["__main__"].Own(), task=pair.task, base="some/model:remote-code")  # type: ignore[attr-defined]
    assert trust_flags([pair, own], Path("my/script.py")) == ["--trust", "my/script.py", "folder"]  # type: ignore[list-item]


def test_a_class_of_the_script_that_runs_needs_no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--resume` of one's own script goes on without a further flag."""
    lora = entry("learners", "lora")
    known = made(lora, entry("tasks", "arena")).learner
    monkeypatch.setattr(sys.modules["__main__"], "Own", type(known), raising=False)
    assert made(lora | {"class": "__main__.Own"}, entry("tasks", "arena")).learner == known


def test_the_file_of_a_script_s_own_class_is_named() -> None:
    found = facts(entry("learners", "lora"), entry("tasks", "arena")) | {"command": ["my/own.py", "--seed", "1"]}
    for place, file in (("__main__.Own", "my/own.py"), ("my.other.Own", "my/other.py")):
        found["sweep"]["pairs"][0]["learner"] |= {"class": place}
        with pytest.raises(BadInput, match=rf"add --trust {file}$"):
            rebuild(found)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("gone.py", "--trust gone.py: there is no such file"),
        ("no.such_module", "--trust no.such_module: no such module"),
        ("broken.py", "--trust broken.py: importing it raises bad"),
        ("unguarded.py", "--trust unguarded.py: importing it raises 2"),
    ],
)
def test_code_that_cannot_be_imported_is_named(
    given: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('bad\\nluck')")
    (tmp_path / "unguarded.py").write_text("import sys\nsys.exit(2)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(BadInput, match=error) as caught:
        apply_trust([given])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ("learner", "subprocess.Popen"),
        ("task", "pathlib.Path"),
        ("learner", "trainables.tasks.arena.task.ArenaTask"),  # the project's, but no learner
        ("learner", "trainables.learners.lm.supervised.SupervisedLearner"),
        ("learner", "trainables.core.Adapter"),  # a dataclass
        ("task", "trainables.learners.lm.lora.LoraConfig"),
        ("learner", "trainables.core.LearnerConfig"),
        ("learner", "nowhere"),
        ("learner", ""),
    ],
)
def test_a_file_names_no_class_but_a_learner_or_a_task(part: str, path: str) -> None:
    found = facts(entry("learners", "lora"), entry("tasks", "arena"))
    found["sweep"]["pairs"][0][part] = {"name": "planted", "class": path, "fields": {}}
    with pytest.raises(BadInput, match=r"^sweep.yaml: (class .* comes from module|this version has no)"):
        rebuild(found)


def test_a_base_in_a_file_runs_no_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.spec.trust._allowed", set())
    found = facts(entry("learners", "lora"), entry("tasks", "arena"))
    found["sweep"]["pairs"][0]["base"] = "evil/model:bfloat16:remote-code"
    with pytest.raises(BadInput, match=r"the base 'evil/model:bfloat16:remote-code' runs code of its repository"):
        rebuild(found)
    apply_trust([], [made(entry("learners", "lora"), entry("tasks", "arena"))])
    with pytest.raises(BadInput):
        rebuild(found)
    apply_trust(["folder"])
    assert rebuild(found).pairs[0].base == "evil/model:bfloat16:remote-code"


def test_neither_importing_it_nor_reading_a_sweep_of_language_learners_imports_torch() -> None:
    """Some learners' modules import torch, but those are not the ones that are read."""
    code = (
        "import sys, yaml\nfrom sweeps.spec.deserialize import rebuild\nassert 'torch' not in sys.modules\n"
        "rebuild(yaml.safe_load(sys.stdin))\nassert 'torch' not in sys.modules"
    )
    text = yaml.safe_dump(facts(entry("learners", "lora"), entry("tasks", "arena")))
    subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True)


@pytest.mark.parametrize("one", [ARC, ARENA, TOY, ARENA.fix({"lora.r": 8, "weight_decay": 0.0})])
def test_a_sweep_is_made_again_from_its_yaml(one):
    facts = yaml.safe_load(yaml.safe_dump(describe(one)))
    again = rebuild(facts)
    assert again.to_dict() == one.to_dict()
    assert again.defaults() == one.defaults()
    params = next(p for p in one.defaults())
    assert again.resolve(params) == one.resolve(params)
    again.validate()


def test_what_cannot_be_made_again_is_named():
    facts = yaml.safe_load(yaml.safe_dump(describe(TOY)))
    facts["sweep"]["pairs"][0]["learner"]["class"] = "tests.support.toys.Gone"
    with pytest.raises(BadInput, match=r"class Gone comes from module .* add --trust tests/support/toys.py"):
        rebuild(facts)
