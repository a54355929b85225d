"""`espalier judge` on sweeps' folders: whose replies, under which hashes, by which judges, and what is left behind."""

from __future__ import annotations

import shutil

import pytest
import yaml

from sweeps.commands.judging.command import REPORT, VERDICTS, JudgeOptions, judge
from sweeps.commands.judging.verdicts import read_verdicts
from sweeps.results.checkpoint_hash import checkpoint_hash
from sweeps.results.run_folder import Run
from sweeps.tuning.recorder import HASHES
from tests.support.judging_kit import chat_server
from tests.support.report_kit import confirmed, several
from tests.support.report_kit import folder as left_folder
from trainables.bad_input import BadInput
from trainables.models.loading import BUILTIN


@pytest.fixture
def run(tmp_path):
    """Two finalists that answer 60 questions: trial 0 mostly as the data does, trial 3 by half, the base hardly."""
    left = confirmed(tmp_path / "run")
    (left / "best").mkdir()
    for name in ("config.json", "model.safetensors"):  # any weights will do
        shutil.copy(BUILTIN["tiny"] / name, left / "best" / name)
    (left / HASHES).write_text(yaml.safe_dump({"t0": "of another first", "t3": "0123456789ab"}))
    return left


def test_a_key_is_named_for_each_endpoint(run):
    """One variable for two endpoints would send the key of the first to the second."""
    two = JudgeOptions(judge=("https://a/v1", "https://b/v1"), model=("m", "m"), key_variable=("A",))
    with pytest.raises(BadInput, match="names 1 variables for 2 endpoints; name one for each"):
        judge(run, two)


def by_length(text):
    """A fair judge: the shorter reply is the better one."""
    a, b = (text.split(f"<reply-{name}>\n")[1].split(f"\n</reply-{name}>")[0] for name in "ab")
    winner = "Tie" if len(a) == len(b) else "A" if len(a) < len(b) else "B"
    criteria = ("originality", "coherence", "depth", "engagement", "craft")
    return "\n".join([*(f"{name}: A=3 B=3" for name in criteria), f"Winner: {winner}"])


def test_the_winner_is_judged_against_the_untouched_base_by_its_weights(run, capsys):
    with chat_server(by_length) as (url, asked):
        judge(run, JudgeOptions(judge=(url,), model=("m",)))
        best, base = checkpoint_hash(run / "best"), "builtin:tiny"
        verdicts = read_verdicts(run / VERDICTS)
        assert {(v.first, v.second) for v in verdicts} == {(best, base)}
        assert len(verdicts) == 60
        answers = Run.read(run).answers
        said = {
            name: answers[(answers.name == name) & (answers.seed == 0)].sort_values("item").completion.tolist()
            for name in ("trial 0", "untouched base")
        }
        shorter = sum(len(a) < len(b) for a, b in zip(*said.values(), strict=True))
        longer = sum(len(a) > len(b) for a, b in zip(*said.values(), strict=True))
        assert [v.winner for v in verdicts].count("first") == shorter > 40
        assert [v.winner for v in verdicts].count("second") == longer
        assert not any(name in question for question in asked for name in ("trial", "untouched", best, base))
        report = (run / REPORT).read_text()
        assert f"trial 0 ({best}) is better than untouched base (builtin:tiny)" in report
        assert report in capsys.readouterr().out
        before = len(asked)
        judge(run, JudgeOptions(judge=(url,), model=("m",)))
        assert len(asked) == before, "what was judged is not judged again"
    assert (run / REPORT).read_text() == report


def test_three_checkpoints_and_two_judges_are_compared_with_each_other(run, capsys):
    with chat_server(by_length) as (url, _):
        judge(run, JudgeOptions(judge=("likelihood", url), model=("m",), trials=("best", "3", "untouched", "0")))
    out = capsys.readouterr().out
    assert "uses builtin:tiny, the trials' own base" in out
    assert "Bradley-Terry strengths" in out
    assert "Agreement of the 2 judges" in out
    assert "trial 3 (0123456789ab)" in out
    assert len(read_verdicts(run / VERDICTS)) == 2 * 3 * 60, "trial 0 is the best, and is judged once"


def test_another_base_reads_without_a_warning_and_few_items_are_told(tmp_path, run, capsys):
    shutil.copytree(BUILTIN["tiny"], tmp_path / "other")
    table = Run.read(run).answers
    table[table["item"] < 12].to_parquet(run / "finalists.parquet")
    judge(run, JudgeOptions(base=str(tmp_path / "other")))
    out = capsys.readouterr().out
    assert "own base" not in out
    assert "only 12 items: at least 30 are needed" in out
    assert "only 11 of 12 items judged, as the other replies are equal" in (run / REPORT).read_text()
    hashed = checkpoint_hash(tmp_path / "other")
    assert {v.judge for v in read_verdicts(run / VERDICTS)} == {f"likelihood:{hashed}:0.05"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"trials": ("best",)}, "--trials best: one checkpoint has nothing to be compared with"),
        ({"trials": ("best", "0")}, "--trials best 0: one checkpoint"),
        ({"trials": ("best", "7")}, "--trials 7: it did not answer the test split; these did: trial 0"),
        ({"trials": ("best", "99")}, "has no trial '99'"),
        ({"judge": ("http://localhost:1/v1",)}, "--judge names 1 endpoints and --model 0 models"),
        ({"model": ("m",)}, "--judge names 0 endpoints and --model 1 models"),
        ({"judge": ("vicuna",), "model": ("m",)}, "must be an address such as"),
        ({"base": "builtin:none"}, "is not built in"),
    ],
)
def test_what_cannot_be_judged_is_told_in_one_line(run, flags, said):
    with pytest.raises(BadInput, match=said) as told:
        judge(run, JudgeOptions(**flags))
    assert "\n" not in str(told.value)
    assert not (run / REPORT).exists()


def test_runs_without_answers_or_hashes_are_told(run, tmp_path):
    (run / HASHES).unlink()
    with pytest.raises(BadInput, match="trial 3: the hash of its weights is not in"):
        judge(run, JudgeOptions(trials=("best", "3")))
    with pytest.raises(BadInput, match="has no answers to the test split"):
        judge(left_folder(tmp_path / "searched", several(4)))
    with pytest.raises(BadInput, match="is not a sweep's folder"):
        judge(tmp_path / "nowhere")
