"""A sweep of several bases: its pairs, axes, first trials and flags; what is refused, and what later commands read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.cli.flags import parse
from sweeps.persistence.provenance import describe
from sweeps.persistence.resume_check import changes
from sweeps.resources import base_memory
from sweeps.resources.base_memory import GIB, check_bases_fit
from sweeps.resources.placement import Machine, place
from sweeps.results.leaderboard import write_all
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.spec.deserialize import rebuild
from sweeps.spec.sweep import Sweep
from sweeps.spec.warm_start import in_words, like
from sweeps.tuning.session import check
from trainables.bad_input import BadInput
from trainables.core import Pair

TWO = ["--base", "builtin:tiny", "builtin:tiny:float32"]


def given(*flags: str, sweep: Sweep = ARENA) -> Sweep:
    return parse(sweep, [*flags])[1]


def written(sweep: Sweep) -> dict[str, Any]:
    return yaml.safe_load(yaml.safe_dump(describe(sweep)))


def test_every_learner_is_a_pair_on_every_base() -> None:
    sweep = given(*TWO, "--learner", "lora", "soft_prompt")
    assert sweep.pair_names == ["lora@tiny", "lora@tiny-float32", "soft_prompt@tiny", "soft_prompt@tiny-float32"]
    assert [pair.base for pair in sweep.pairs] == 2 * TWO[1:]
    sweep.validate()
    axes = sweep.joined_space().axes
    assert axes["learner"].choices == tuple(sweep.pair_names)  # type: ignore[attr-defined]
    assert {"lora@tiny.r", "lora@tiny-float32.r", "soft_prompt@tiny.num_virtual_tokens"} <= axes.keys()
    first = sweep.defaults()
    assert [one.pair for one in first] == sweep.pair_names, "neighbours are on different bases"
    assert [sweep.resolve(one).base for one in first] == [pair.base for pair in sweep.pairs]


def test_one_base_has_no_label_anywhere() -> None:
    sweep = given("--base", "builtin:tiny:float32")
    assert sweep.pair_names == [pair.learner.name for pair in ARENA.pairs]
    assert "label" not in str(written(sweep)["sweep"]["pairs"])
    assert {pair.base for pair in sweep.pairs} == {"builtin:tiny:float32"}


def test_a_learner_without_a_base_is_one_pair() -> None:
    sweep = given(*TWO, "--learner", "percell", "efe", sweep=ARC)
    assert sweep.pair_names == ["percell", "efe@tiny", "efe@tiny-float32"]


@pytest.mark.parametrize(
    ("flag", "fixed"),
    [
        ("r=8", ["lora@tiny", "lora@tiny-float32", "hybrid@tiny", "hybrid@tiny-float32"]),
        ("lora.r=8", ["lora@tiny", "lora@tiny-float32"]),
        ("lora@tiny.r=8", ["lora@tiny"]),
    ],
)
def test_a_field_is_set_for_all_for_a_learner_or_for_one_pair(flag: str, fixed: list[str]) -> None:
    sweep = given(*TWO, "--set", flag)
    with_r = [pair for pair in sweep.pairs if "r" in sweep.space_of(pair).axes]
    assert [pair.name for pair in with_r if sweep.space_of(pair).axes["r"].single()] == fixed


def test_each_pair_has_the_ranges_that_suit_its_base(tmp_path: Path) -> None:
    wide = tmp_path / "llama-3.1-8b"
    wide.mkdir()
    sweep = given("--base", "builtin:tiny", str(wide), "--learner", "lora")
    tops = [sweep.space_of(pair).axes["learning_rate"].high for pair in sweep.pairs]  # type: ignore[attr-defined]
    assert tops[1] == 3e-3 < tops[0]


def test_a_sweep_of_several_bases_is_read_back() -> None:
    sweep = given(*TWO, "--set", "lora@tiny.r=8")
    sweep = replace(sweep, first=(TrialParams("hybrid@tiny", {"r": 4}),))
    again = rebuild(written(sweep))
    assert (again.pairs, again.first) == (sweep.pairs, sweep.first)
    assert all(again.space_of(pair) == sweep.space_of(pair) for pair in sweep.pairs)
    facts = written(sweep)
    facts["sweep"]["pairs"][0]["label"] = "../../etc"
    with pytest.raises(BadInput, match=r"sweep.yaml: the label '../../etc' of a base cannot be in an axis"):
        rebuild(facts)


def test_resume_names_the_bases_that_differ() -> None:
    two, other = written(given(*TWO)), written(given("--base", "builtin:tiny", "builtin:tiny:bfloat16"))
    assert changes(two, two) == []
    assert changes(two, other) == ["--base builtin:tiny builtin:tiny:float32 -> builtin:tiny builtin:tiny:bfloat16"]
    assert changes(written(given()), two) == ["--base builtin:tiny -> builtin:tiny builtin:tiny:float32"]
    assert "--learner" in changes(two, written(given(*TWO, "--learner", "lora")))[0]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--base", "builtin:tiny", "builtin:tiny"], "--base names builtin:tiny twice; give each base once"),
        ([*TWO, "--set", "lora@big.r=8"], "axis 'lora@big.r' is not a field of any learner"),
    ],
)
def test_flags_that_name_no_base_or_one_twice_are_refused(flags: list[str], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        given(*flags)


def test_a_base_that_does_not_load_is_named(tmp_path: Path) -> None:
    from trainables.models.loading import BUILTIN

    for fault in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = tmp_path / fault.partition(".")[0]
        folder.mkdir()
        for file in BUILTIN["tiny"].iterdir():
            if file.name != fault:
                (folder / file.name).write_bytes(file.read_bytes())
        with pytest.raises(BadInput, match=f"base '{folder}'.*; or drop it from --base") as error:
            check(given("--base", "builtin:tiny", str(folder), "--learner", "lora"))
        assert "\n" not in str(error.value)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep of two bases that are said to take 1 and 3 GiB."""
    known = {TWO[1]: GIB, TWO[2]: 3 * GIB}
    monkeypatch.setattr(base_memory, "base_bytes", lambda base, gpu: float(known[base]))
    return given(*TWO)


@pytest.mark.parametrize(
    ("free", "at_once", "nodes", "gpu", "text"),
    [
        (2, 0, [], 0, r"base tiny-float32 does not fit: tiny 1 GiB, tiny-float32 3 GiB, and 2 GiB are free in memory"),
        (
            3.5,
            0,
            [],
            0,
            r"need 4 GiB side by side \(tiny 1 GiB, tiny-float32 3 GiB\), and 3.5 GiB .* drop builtin:tiny fr",
        ),
        (8, 4, [], 0, r"4 trials at once, .* may need 12 GiB .* drop builtin:tiny:float32 .*--max-concurrent-trials 2"),
        (99, 0, [2, 2], 0, "and 2 GiB are free in the largest machine"),
        (99, 0, [3, 0.5], 0, "need 4 GiB side by side"),
        (2, 0, [], 1, "and 2 GiB are free in the GPU of a host; drop builtin:tiny:float32 from --base"),
        (4, 0, [], 0, ""),
        (0, 0, [3, 1], 0, ""),
        (3, 0, [], 1, ""),
    ],
)
def test_bases_that_do_not_fit_are_refused_with_their_sizes(
    sizes: Sweep, free: float, at_once: int, nodes: list[float], gpu: int, text: str
) -> None:
    sweep = replace(sizes, resources_per_trial={"gpu": gpu})
    places = [GIB * one for one in nodes]
    if not text:
        check_bases_fit(sweep, free * GIB, at_once, places)
        return
    with pytest.raises(BadInput, match=text) as error:
        check_bases_fit(sweep, free * GIB, at_once, places)
    assert "\n" not in str(error.value)


def test_the_seats_are_shared_among_the_bases() -> None:
    sweep = given(*TWO)
    found = place(sweep, Machine(cores=8, free_bytes=64 * GIB))
    assert (found.seats, found.hosts, found.bases) == (3, 2, 2), "ten trials at once, five on each base"
    assert "on 2 hosts of each of 2 bases, side by side" in str(found)


def record(number: int, pair: str, score: float, **fields: Any) -> TrialRecord:
    history = TrialHistory(({"round": 1, "score": score, "loss": 1.0, "diverged": False},))
    return TrialRecord(f"t{number}", number, TrialParams(pair, fields), "finished", history, 10)


def left(folder: Path, sweep: Sweep, records: list[TrialRecord]) -> Run:
    folder.mkdir()
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(written(sweep)))
    write_all(folder, records, baselines={}, rounds=1, pairs=sweep.pair_names)
    return Run.read(folder)


def test_like_starts_each_pair_from_the_same_learner_and_base(tmp_path: Path) -> None:
    sweep = given(*TWO, "--learner", "lora")
    fields = sweep.defaults()[0].fields
    trials = [
        record(0, "lora@tiny", 0.2, **{**fields, "r": 4}),
        record(1, "lora@tiny-float32", 0.9, **{**fields, "r": 16}),
    ]
    run = left(tmp_path / "run", sweep, trials)
    assert [one.pair for one in run.records] == ["lora@tiny", "lora@tiny-float32"]
    assert set(run.records[0].history[0]) >= {"score"}
    narrowed, first = like(sweep, run)
    assert [(one.pair, one.fields["r"]) for one in first] == [("lora@tiny", 4), ("lora@tiny-float32", 16)]
    other = given("--base", "builtin:tiny:bfloat16:remote-code", "--learner", "lora")
    _, first = like(other, run)
    assert [(one.pair, one.fields["r"]) for one in first] == [("lora", 16)], "another base: from where lora was best"
    assert "lora: from lora@tiny-float32" in in_words(other, *like(other, run), run)
    assert narrowed.pair_names == sweep.pair_names


def test_the_tables_have_a_column_for_the_base_only_with_several(tmp_path: Path) -> None:
    pairs = [Pair(ARENA.pairs[0].learner, ARENA.pairs[0].task, base, label) for base, label in (("a", "a"), ("b", "b"))]
    write_all(tmp_path, [record(0, pairs[0].name, 0.2, r=4)], baselines={}, rounds=1, pairs=[p.name for p in pairs])
    assert (
        (tmp_path / "leaderboard.csv")
        .read_text()
        .splitlines()[0]
        .endswith("seconds,base,params_learner,params_lora@a.r")
    )
    write_all(tmp_path, [record(0, "lora", 0.2, r=4)], baselines={}, rounds=1, pairs=["lora"])
    assert (tmp_path / "leaderboard.csv").read_text().splitlines()[0].endswith("seconds,params_r")
