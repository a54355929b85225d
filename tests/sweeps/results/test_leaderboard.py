"""The leaderboard: exact lines from hand-made records, files that other tools read, 80 columns."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
from rich.console import Console

from sweeps.results.leaderboard import print_table, rank, varying_axes, write_all
from sweeps.results.records import TrialRecord, by_score, how_ended
from sweeps.results.search_comparison import against_trivial
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams

BASELINES = {"chance": 0.25, "constant": 0.3, "constant.sequence": 0.9}


def record(number, score, status="finished", rounds=4, n=60, learner="lora", history=None, **params):
    params = {"r": 8, "learning_rate": 0.0003} | params
    fixed = {"score": score, "loss": 1.5, "diverged": status == "diverged"}
    history = [{"round": i + 1, "time_s": 2.0 * i} | fixed for i in range(rounds)]
    return TrialRecord(f"t{number}", number, TrialParams(learner, params), status, TrialHistory(tuple(history)), n)


FOUR = [
    record(0, 0.3, "pruned", 1, learning_rate=0.03),
    record(1, 0.8, learning_rate=0.00031234),
    record(2, 0.7, learning_rate=0.001),
    record(3, 0.0, "diverged", 2, learning_rate=3.0),
]


def test_markdown_to_the_letter(tmp_path):
    folder = tmp_path / "arena"
    folder.mkdir()
    write_all(folder, FOUR, baselines=BASELINES, rounds=4)
    # Wilson at n = 60: 48 right 68.2-88.2, 42 right 57.5-80.1, 18 right 19.9-42.5, none 0-6.0.
    assert (folder / "leaderboard.md").read_text().splitlines() == [
        "# arena: 4 trials of up to 4 rounds",
        "",
        "| rank | trial | score | 95 % interval | rounds | status | what differs |",
        "|---:|---:|---:|---:|---:|---|---|",
        "| 1 | 1 | 80.0 % | 68.2-88.2 | 4 | finished | learning_rate=0.000312 |",
        "| 2 | 2 | 70.0 % | 57.5-80.1 | 4 | finished | learning_rate=0.001 |",
        "| 3 | 0 | 30.0 % | 19.9-42.5 | 1 | pruned at round 1 | learning_rate=0.03 |",
        "| - | 3 | 0.0 % | 0.0-6.0 | 2 | diverged in round 2 | learning_rate=3 |",
        "",
        "- chance 25.0 %, constant 30.0 %.",
        "- Ranks 1-2 (2 trials) cannot be told apart at n=60"
        " (unpaired, by their intervals, as scores by item are not at hand).",
        "- n=60 shows differences from 26 points up (80 % power).",
        "- best against constant: +50.0 points, beyond what luck may give the best of 9 scores.",
        "- Scores are on the search split, each the best of its rounds: what finalists score on the test split counts.",
        "",
    ][:-1]


def test_equal_scores_share_a_rank_and_the_next_rank_counts_them():
    rows = rank([record(0, 0.5), record(1, 0.7), record(2, 0.7), record(3, 0.5), record(4, 0.1)])
    assert [(row.rank, row.record.number) for row in rows] == [(1, 1), (1, 2), (3, 0), (3, 3), (5, 4)]


def test_trials_that_cannot_win_carry_no_rank_whatever_they_scored():
    waiting = record(3, 0.0, "running", 0)
    rows = rank([record(0, 0.9, "diverged"), record(1, 0.8, "failed"), record(2, 0.2, "running", 1), waiting])
    assert [(row.rank, row.record.number) for row in rows] == [(1, 2), (None, 1), (None, 0), (None, 3)]
    assert rows[3].interval is None


def test_partial_credit_items_decide_the_interval():
    half = dataclasses.replace(record(0, 0.5, n=4), items=(0.5, 0.5, 0.5, 0.5))
    assert rank([half])[0].interval == (0.5, 0.5)
    assert rank([record(0, 0.5, n=4)])[0].interval == pytest.approx((0.150, 0.850), abs=1e-3)


def test_only_what_varies_is_shown_and_an_axis_that_one_learner_lacks_varies():
    def varying(*fields):
        return varying_axes([TrialParams("lora", one) for one in fields])

    assert varying({"r": 8, "lr": 1.0}, {"r": 8, "lr": 2.0}) == [("lora", "lr")]
    assert varying({"r": 8}, {}) == [("lora", "r")]
    assert varying({"r": 8}) == []
    assert rank([record(0, 0.5)])[0].differs == "-"
    mixed = [
        dataclasses.replace(record(number, 0.5 - number / 10), params=TrialParams(learner, fields))
        for number, (learner, fields) in enumerate([("lora", {"alpha": 16}), ("percell", {})])
    ]
    assert [row.differs for row in rank(mixed)] == ["lora alpha=16", "percell"]
    clone = dataclasses.replace(
        mixed[0], number=2, params=TrialParams("lora", {"alpha": 16}, "clones/trial-0-round-3.pt")
    )
    assert rank([mixed[0], clone])[1].differs == "start_from=trial-0-round-3.pt"


@pytest.mark.parametrize(
    ("result", "error", "expected"),
    [
        ({"training_iteration": 4, "done": True}, False, "finished"),
        ({"training_iteration": 2, "done": True}, False, "pruned"),
        ({"training_iteration": 2, "done": False}, False, "interrupted"),
        ({}, False, "interrupted"),
        ({"training_iteration": 4, "done": True, "diverged": True}, False, "diverged"),
        ({"training_iteration": 2}, True, "failed"),
    ],
)
def test_how_a_trial_ended(result, error, expected):
    assert how_ended(result, 4, error) == expected


def test_parquet_has_a_row_per_trial_and_round_that_pandas_reads(tmp_path):
    odd = record(7, 0.5, "failed", 0, r="all", target=("q", "v"))  # an axis of mixed types, one that is a tuple
    write_all(tmp_path, [*FOUR, odd], baselines=BASELINES, rounds=4)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert table.groupby("trial_id")["round"].max().to_dict() == {"t0": 1, "t1": 4, "t2": 4, "t3": 2, "t7": 0}
    assert len(table) == 1 + 4 + 4 + 2 + 1
    second = table[(table.trial_id == "t1") & (table["round"] == 2)].iloc[0]
    assert (second.score, second.loss, second.seconds, second.status, second.number) == (0.8, 1.5, 2.0, "finished", 1)
    assert json.loads(second.params) == {"r": 8, "learning_rate": 0.00031234}
    assert second.params_learning_rate == 0.00031234
    assert second.params_r == "8"
    assert table[table.trial_id == "t7"].iloc[0].params_target == "('q', 'v')"


def test_csv_is_in_rank_order(tmp_path):
    write_all(tmp_path, FOUR, baselines={}, rounds=4)
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert table.number.tolist() == [1, 2, 0, 3]
    assert table["rank"].tolist()[:3] == [1, 2, 3]
    assert table.low[0] == pytest.approx(0.682, abs=1e-3)
    assert table.params_learning_rate[2] == 0.03


def test_a_sweep_without_trials_is_written_too(tmp_path):
    write_all(tmp_path, [], baselines=BASELINES, rounds=4)
    assert {path.name for path in tmp_path.iterdir()} == {"leaderboard.md", "leaderboard.csv", "trials.parquet"}
    assert len(pd.read_parquet(tmp_path / "trials.parquet")) == 0


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path):
    write_all(tmp_path, FOUR, baselines={}, rounds=4)
    before = (tmp_path / "trials.parquet").read_bytes()
    beyond = TrialHistory(({"round": 2**80},))  # no column of integers holds it
    unwritable = dataclasses.replace(FOUR[0], history=beyond)
    with pytest.raises(OverflowError):
        write_all(tmp_path, [unwritable], baselines={}, rounds=4)
    assert (tmp_path / "trials.parquet").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_the_table_fits_80_columns_and_keeps_every_value():
    many = [record(i, i / 20, r=2**i, weight_decay=0.01 * i, lr_scheduler_type="cosine" * (i % 2)) for i in range(12)]
    console = Console(record=True, width=80, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(many, BASELINES, top=10, console=console)
    lines = console.export_text().splitlines()
    assert max(len(line) for line in lines) <= 80
    text = "".join("".join(lines).split())
    assert "1" in lines[1].split()
    assert "r=2048" in text
    assert "weight_decay=0.11" in text
    assert "and 2 more in leaderboard.md" in lines


def test_a_narrow_table_keeps_the_score_and_what_differs():
    """With 40 columns there was no room for them beside ranks, intervals and rounds."""
    console = Console(record=True, width=40, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table([record(i, i / 20, r=2**i, learning_rate=1e-4 * i) for i in range(12)], BASELINES, console=console)
    lines = console.export_text().splitlines()
    assert lines[0].split() == ["trial", "score", "%", "what", "differs"]
    assert lines[1].split()[:2] == ["11", "55.0"]
    assert "r=2048" in "".join("".join(lines).split())
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize("width", [40, 64, 80, 120])
def test_a_trial_is_one_line_with_what_differs_from_the_best_of_its_learner(width):
    same = {"weight_decay": 0.01, "lr_scheduler_type": "cosine", "target_modules": "all-linear"}
    trials = [record(i, 0.9 - i / 20, r=2 ** (i % 3), learning_rate=1e-4 * (i // 3 + 1), **same) for i in range(6)]
    trials += [record(6 + i, 0.3 - i / 20, learner="soft_prompt", num_virtual_tokens=10 + i) for i in range(2)]
    console = Console(record=True, width=width, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(trials, BASELINES, console=console)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(map(len, lines)) <= width
    place = lines[0].index("what differs")
    ends = ["lora (the best)", "lora r=2", "lora r=4", "lora learning_rate=0.0002"]
    ends += ["lora learning_rate=0.0002 r=2", "lora learning_rate=0.0002 r=4"]
    ends += ["soft_prompt (the best)", "soft_prompt num_virtual_tokens=11"]
    for line, end in zip(lines[1:9], ends, strict=True):
        shown = line[place:]
        assert shown == end or (shown.endswith("…") and end.startswith(shown[:-1] + " ")), "cut between fields"
        assert shown == end or width < 80, "nothing is cut where there is room"
    text = " ".join(lines[9:])
    assert text.startswith("trial 0, the best of lora: r=1 learning_rate=0.0001 trial 6, the best of soft_prompt: ")


def test_markdown_survives_a_bar_in_a_value(tmp_path):
    write_all(tmp_path, [record(0, 0.5, r="a|b"), record(1, 0.4, r="c")], baselines={}, rounds=4)
    assert "r=a\\|b |" in (tmp_path / "leaderboard.md").read_text()


def test_a_best_that_may_be_no_better_than_the_trivial_is_called_so(tmp_path):
    write_all(tmp_path, [record(0, 0.35)], baselines=BASELINES, rounds=4)
    luck = "within what luck may give the best of 4 scores: it may be no better"
    assert f"best against constant: +5.0 points, {luck}" in (tmp_path / "leaderboard.md").read_text()


def test_the_best_of_many_scores_must_be_further_from_the_trivial():
    """28 of 60 right against 30 %: Wilson's lower end is 34.6 % at 95 %, but 26.8 % at 1 - 0.05 / 100."""
    trivial = {"chance": 0.25, "constant": 0.3}
    alone, many = ([record(i, 28 / 60, rounds=1) for i in range(count)] for count in (1, 100))
    assert against_trivial(alone, trivial) == ("constant", 1, True)
    assert against_trivial(by_score(many), trivial) == ("constant", 100, False)


def test_a_base_that_beats_the_best_trial_is_told_as_harm(tmp_path):
    """Wilson at n = 60: 18 right 19.9-42.5. Also where a constant answer would be better still."""
    for constant, first in ((0.4, "best against untouched"), (0.9, "best against constant")):
        write_all(tmp_path, [record(0, 0.3)], baselines={"constant": constant, "untouched": 0.5}, rounds=4)
        lines = (tmp_path / "leaderboard.md").read_text().splitlines()
        told = [line for line in lines if line.startswith("- best against")]
        assert told[0].startswith(f"- {first}")
        assert told[-1] == "- best against untouched: -20.0 points, beyond its interval: training made it worse."
    write_all(tmp_path, [record(0, 0.3)], baselines={"constant": 0.2, "untouched": 0.4}, rounds=4)
    assert "training made it worse" not in (tmp_path / "leaderboard.md").read_text()
