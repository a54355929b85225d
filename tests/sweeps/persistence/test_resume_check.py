"""`--resume` with other flags than the sweep was started with: one short line that says which."""

from __future__ import annotations

import hashlib

import pytest

from sweeps import arc, arena
from sweeps.cli.flags import parse
from sweeps.persistence.provenance import describe
from sweeps.persistence.resume_check import changes, check_same
from sweeps.results.run_folder import Run
from sweeps.tuning.session import create
from tests.support import gguf_kit
from trainables.bad_input import BadInput


def facts_of(*flags, script=arena.SWEEP):
    return describe(parse(script, [*flags])[1])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], []),
        (["--finalists", "2", "--seats", "1", "--resources.gpu", "0"], []),
        (["--num-samples", "9", "--seed", "3"], ["--num-samples 24 -> 9", "--seed 0 -> 3"]),
        (["--task.train-size", "40"], ["--task.train-size 640 -> 40"]),
        (["--set", "lora.r=8"], ["--set lora.r 4 or 8 or 16 or 32 -> 8"]),
        (["--set", "lora.learning_rate=0.003"], ["--set lora.learning_rate 0.0001-0.02 -> 0.003"]),
        (["--learner", "lora", "hybrid"], ["--learner lora soft_prompt hybrid -> lora hybrid"]),
        (["--set", "lora.max_grad_norm=0.5"], ["--set lora.max_grad_norm not set -> 0.5"]),
    ],
)
def test_what_may_not_change_on_resume_is_told_as_flags(flags, told, tmp_path):
    create(tmp_path / "arena", facts_of())
    now = facts_of(*flags)
    assert changes(Run.read(tmp_path / "arena").facts, now) == told
    if told:
        with pytest.raises(BadInput) as refused:
            check_same(tmp_path / "arena", now)
        assert str(refused.value) == (
            f"--resume: {tmp_path / 'arena'} was started otherwise: {'; '.join(told)}; give the flags it had, or start"
            " a new sweep with --name"
        )


def test_much_that_changed_is_still_one_short_line(tmp_path):
    create(tmp_path / "arena", facts_of())
    flags = ["--num-samples", "9", "--seed", "3", "--task.train-size", "40", "--set", "r=8", "learning_rate=0.003"]
    with pytest.raises(BadInput, match=r"; and [2-9] more; give the flags it had") as refused:
        check_same(tmp_path / "arena", facts_of(*flags))
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


def test_whatever_else_differs_is_refused_too():
    """Data under the same flags, and what no flag says, as a condition of an axis."""
    facts = facts_of()
    assert changes(facts, facts | {"data_fingerprints": {"arena": "x"}}) == ["the data of arena itself changed"]
    space = facts["sweep"]["space"] | {"conditions": {}}
    assert changes(facts, facts | {"sweep": facts["sweep"] | {"space": space}}) == ["its space changed"]


def test_another_base_or_task_is_told_wherever_it_stands():
    """The base of the second pair, as the first has none."""
    names = ("--learner", "percell", "lora_ttt", "--base")
    before, now = (facts_of(*names, base, script=arc.SWEEP) for base in ("builtin:tiny", "builtin:tiny:bf16"))
    assert "--base builtin:tiny -> builtin:tiny:bf16" in changes(before, now)


def test_another_file_under_the_name_of_a_gguf_base_is_told(tmp_path, own_cache):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    before = facts_of("--base", str(path))
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    assert before["sweep"]["pairs"][0]["base"] == f"{path}:sha256={old}"
    assert changes(before, facts_of("--base", str(path))) == []
    gguf_kit.write(path, gguf_kit.model("llama", tied=False))
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    told = f"--base a file with sha256 {old[:12]}... -> another, {new[:12]}..."
    assert changes(before, facts_of("--base", str(path))) == [told]


def test_a_sweep_of_an_earlier_layout_of_the_files_is_refused_with_its_commit(tmp_path):
    old = facts_of() | {"commit": "df134d1abcde"}
    for pair in old["sweep"]["pairs"]:
        pair["learner"]["class"] = pair["learner"]["class"].replace("learners.lm.", "learners.")
    create(tmp_path / "arena", old)
    with pytest.raises(BadInput, match=r"at commit df134d1abcde, whose files lay elsewhere.*check out that"):
        check_same(tmp_path / "arena", facts_of())
