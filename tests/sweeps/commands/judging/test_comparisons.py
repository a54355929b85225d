"""Judging from end to end: pairs, orders, files, planted judges."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sweeps.commands.judging.agreement import agreement
from sweeps.commands.judging.comparisons import BlindPair, judge_all
from sweeps.commands.judging.verdicts import read_verdicts
from sweeps.commands.judging.win_rates import position_bias, win_rate
from sweeps.results.checkpoint_hash import checkpoint_hash
from tests.support.judging_kit import ITEMS, REPLIES, Planted, at_random, longer


def test_every_pair_both_orders_and_the_right_winner(tmp_path):
    judge = Planted(longer)
    found = judge_all([judge], REPLIES, ITEMS, tmp_path / "verdicts.jsonl")
    assert len(found) == 3 * 20
    assert len(judge.asked) == 2 * 3 * 20
    assert sum(BlindPair(one.prompt, one.b, one.a) in judge.asked for one in judge.asked) == 2 * 3 * 20
    pairs = {pair: [v for v in found if {v.first, v.second} == set(pair)] for pair in [("long", "short")]}
    assert win_rate(pairs["long", "short"], "long").rate == 1
    assert win_rate([v for v in found if {v.first, v.second} == {"mixed", "long"}], "mixed").rate == 0.5
    assert read_verdicts(tmp_path / "verdicts.jsonl") == found


def test_what_is_known_is_not_judged_again_in_whatever_order(tmp_path):
    file, judge = tmp_path / "v.jsonl", Planted(longer)
    first = judge_all([judge], REPLIES, ITEMS, file)
    before = len(judge.asked)
    again = judge_all([judge], dict(reversed(REPLIES.items())), ITEMS, file)
    assert len(judge.asked) == before
    assert {v.key for v in again} == {v.key for v in first}
    assert len(read_verdicts(file)) == len(first)


def test_other_replies_of_the_same_checkpoint_are_judged_afresh(tmp_path):
    """A stale verdict is one on a checkpoint that is not the one evaluated."""
    file, judge = tmp_path / "v.jsonl", Planted(longer)
    judge_all([judge], REPLIES, ITEMS, file)
    before = len(judge.asked)
    changed = REPLIES | {"short": ["word " * 30, *REPLIES["short"][1:]]}
    found = judge_all([judge], changed, ITEMS, file)
    assert len(judge.asked) == before + 2 * 2, "one item of two pairs, in both orders"
    pair = [v for v in found if {v.first, v.second} == {"long", "short"}]
    assert (win_rate(pair, "short").wins, win_rate(pair, "short").n) == (1, 20)
    with pytest.raises(ValueError, match="on other replies"):
        win_rate([v for v in read_verdicts(file) if {v.first, v.second} == {"long", "short"}], "short")


def test_equal_replies_are_a_tie_that_nobody_is_asked_about(tmp_path):
    judge = Planted(lambda _: "A")
    found = judge_all([judge], {"x": ["same"] * 20, "y": ["same"] * 20}, ITEMS, tmp_path / "v.jsonl")
    assert not judge.asked
    assert win_rate(found, "x").ties == 20
    assert position_bias(found).n == 0, "and no sign of a favoured place"


def test_a_judge_that_always_says_a_and_one_that_guesses(tmp_path):
    always, guess = Planted(lambda _: "A", "always"), Planted(at_random(1), "guess")
    prompts = {str(i): "p" for i in range(300)}
    replies = {"x": ["one"] * 300, "y": ["two"] * 300}
    judges = [always, guess, Planted(at_random(2), "other guess")]
    found = judge_all(judges, replies, prompts, tmp_path / "v.jsonl", at_a_time=64)
    by = {judge.name: [v for v in found if v.judge == judge.name] for judge in judges}
    assert win_rate(by["always"], "x").rate == 0.5
    assert position_bias(by["always"]).first_shown == 1
    assert position_bias(by["guess"]).first_shown == pytest.approx(1 / 9, abs=0.06)
    assert abs(agreement([*by["guess"], *by["other guess"]]).alpha) < 0.15


def test_what_cannot_be_judged_is_refused_by_name(tmp_path):
    file, judge = tmp_path / "v.jsonl", Planted(longer)
    with pytest.raises(ValueError, match="checkpoint y has 1 replies to 20 prompts"):
        judge_all([judge], {"x": ["a"] * 20, "y": ["a"]}, ITEMS, file)
    with pytest.raises(ValueError, match="two or more checkpoints"):
        judge_all([judge], {"x": ["a"] * 20}, ITEMS, file)
    with pytest.raises(ValueError, match="different names"):
        judge_all([judge, judge], REPLIES, ITEMS, file)
    assert not file.exists()


def test_a_judge_that_fails_loses_only_what_it_was_at(tmp_path):
    count = iter(range(1000))

    def fails(shown: BlindPair) -> str:
        if next(count) == 25:
            raise ConnectionError("gone")
        return longer(shown)

    file = tmp_path / "v.jsonl"
    with pytest.raises(ConnectionError):
        judge_all([Planted(fails)], REPLIES, ITEMS, file, at_a_time=5)
    assert len(read_verdicts(file)) == 10


def adapter(folder: Path, seed: int) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file({"a": np.random.default_rng(seed).random((3, 2))}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"r": 2}')
    return folder


def test_a_checkpoint_has_one_hash_wherever_it_lies(tmp_path):
    here = adapter(tmp_path / "here", 0)
    there = Path(shutil.copytree(here, tmp_path / "far" / "there"))
    (there / "README.md").write_text("not part of it")
    (there / "optimizer.pt").write_text("nor this")
    assert checkpoint_hash(here) == checkpoint_hash(str(there))
    assert len(checkpoint_hash(here)) == 12
    command = "sha256sum adapter_config.json adapter_model.safetensors | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=here, capture_output=True, text=True, check=True).stdout
    assert printed.startswith(checkpoint_hash(here))


def test_another_checkpoint_has_another_hash(tmp_path):
    one, other = adapter(tmp_path / "one", 0), adapter(tmp_path / "other", 1)
    assert checkpoint_hash(one) != checkpoint_hash(other)
    before = checkpoint_hash(one)
    (one / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
    assert checkpoint_hash(one) != before
    hybrid = tmp_path / "hybrid"
    adapter(hybrid / "lora", 0)
    half = checkpoint_hash(hybrid)
    adapter(hybrid / "soft_prompt", 1)
    assert checkpoint_hash(hybrid) != half, "both halves count"
    with pytest.raises(ValueError, match="holds no safetensors weights"):
        checkpoint_hash(tmp_path / "nowhere")
