"""Every sweep script is short and valid; and what the README tells people to type."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import arc, arena, own, reasoning, rl, strategyqa, style
from sweeps.cli.chain_runner import phase_sweeps
from sweeps.cli.flags import parse, read
from sweeps.spec.chain import Chain
from sweeps.spec.sweep import Sweep
from tests.support.arc_files import recolour, write_all_splits
from tests.support.driving import environment
from trainables.bad_input import BadInput
from trainables.tasks.reasoning.task import ReasoningTask

ROOT = Path(__file__).parents[3]
QUESTIONS = ROOT / "tests/golden/questions.csv"
SCRIPTS = [arena, arc, own, reasoning, rl, strategyqa, style]


@pytest.mark.parametrize("module", SCRIPTS, ids=lambda module: module.__name__)
def test_scripts_are_short_and_valid(module):
    assert len(Path(module.__file__).read_text().splitlines()) < 60
    if module is reasoning:
        pytest.importorskip("reasoning_gym", reason="run `make reasoning-gym`")
    given = parse(own.SWEEP, ["--data", str(QUESTIONS), "--base", "builtin:tiny"])[1] if module is own else module.SWEEP
    for one in [given] if isinstance(given, Sweep) else [*given.phases.values(), *given.optional.values()]:
        one.validate()


@pytest.mark.parametrize("script", [arc.SWEEP, own.SWEEP, strategyqa.SWEEP.first, style.SWEEP])
@pytest.mark.parametrize("spelling", ["--data", "--task.data"])
def test_data_has_a_short_spelling_wherever_a_task_has_data(script, spelling, tmp_path):
    """The script's own task, which then differs in its data alone; the arena's, which is generated, has none."""
    assert read(script, [spelling, "arc2", "--rounds", "5"])[1].data.endswith("arc2")
    flags, task = read(script, ["--rounds", "5", f"{spelling}={tmp_path}"])
    assert flags.rounds == 5
    assert task == dataclasses.replace(script.pairs[0].task, data=str(tmp_path))
    with pytest.raises(BadInput, match="Unrecognized options: --data"):
        read(arena.SWEEP, ["--data", "arc2"])


@pytest.mark.parametrize("spelling", ["--task", "--task.generators"])
def test_generators_have_a_short_spelling(spelling):
    flags, task = read(reasoning.SWEEP, [spelling, "rg:gcd", "--task.params", "max_value=60", "--rounds", "5"])
    assert flags.rounds == 5
    assert task == ReasoningTask("rg:gcd", ("max_value=60",))
    assert read(reasoning.SWEEP, [f"{spelling}=lcm"])[1] == ReasoningTask("rg:lcm")
    with pytest.raises(BadInput, match=r"params 'max_value=60': write chain_sum\.PARAMETER=VALUE"):
        read(reasoning.SWEEP, ["--task.params", "max_value=60"])
    with pytest.raises(BadInput, match="Unrecognized options: --task"):
        read(arena.SWEEP, ["--task", "rg:gcd"])


def readme_commands(start):
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


@pytest.mark.parametrize("command", readme_commands("python sweeps/"))
def test_readme_flags_exist(command, tmp_path):
    _, script, *flags = shlex.split(command)
    module = next(one for one in SCRIPTS if one.__name__ == f"sweeps.{Path(script).stem}")
    if "my_tasks.json" in flags:
        flags[flags.index("my_tasks.json")] = write_all_splits(tmp_path / "mine", recolour())
    if module in (own, reasoning):
        flags += ["--base", "builtin:tiny"]  # its own is not installed everywhere
    if isinstance(module.SWEEP, Chain):
        given, task = read(module.SWEEP.first, flags)
        assert phase_sweeps(module.SWEEP, given, task)
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
