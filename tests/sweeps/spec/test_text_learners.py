"""Tasks of questions and answers are searched with the same learners, written down once."""

from __future__ import annotations

import difflib
import itertools
from pathlib import Path

import pytest

from sweeps.cli.flags import parse
from sweeps.spec.sweep import Sweep
from sweeps.spec.text_learners import text_learners
from tests.support.toys import Letters

SCRIPTS = sorted(one for one in Path(__file__).parents[3].glob("sweeps/*.py") if one.stem != "__init__")
LONGEST = 12  # lines; what every script needs is shorter


def test_every_learner_has_the_task_the_base_and_a_space_that_the_sweep_accepts() -> None:
    made = Sweep("letters", **text_learners(Letters(), "some/base"), num_samples=4, rounds=2)
    assert made.pair_names == ["lora", "soft_prompt", "hybrid"]
    _, every = parse(made, ["--learner", *made.pair_names, "dora", "ia3", "full", "grpo"])
    assert every.pair_names == ["lora", "soft_prompt", "hybrid", "dora", "ia3", "full", "grpo"]
    assert {(pair.task, pair.base) for pair in every.pairs} == {(Letters(), "some/base")}
    every.validate()


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(SCRIPTS, 2)], ids=lambda path: path.stem)
def test_no_two_scripts_hold_the_same_lines(one: Path, other: Path) -> None:
    lines, others = (path.read_text(encoding="utf-8").splitlines() for path in (one, other))
    shared = difflib.SequenceMatcher(None, lines, others, autojunk=False).find_longest_match()
    assert shared.size <= LONGEST, f"move to a room of its own: {lines[shared.a : shared.a + shared.size]}"
