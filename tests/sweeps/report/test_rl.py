"""What the page shows of trials that learn from rewards: their rounds, and completions before and after."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from sweeps.report.before_after import before_after
from sweeps.report.plots import plots
from sweeps.report.plots_rl import rewarded
from sweeps.results.records import UNTOUCHED
from sweeps.results.run_folder import Run
from sweeps.results.trial_history import TrialHistory
from tests.support.report_kit import WORDS, confirmed, final, folder, page, questions, section, sections, trial

PLAIN = {"reward": 0.2, "entropy": 1.5, "completions/mean_length": 7.0, "frac_reward_zero_std": 0.25}


def learning(number, score, metrics=PLAIN, **more):
    """A trial whose metrics grow by a hundredth in each round; `kl` is known of the last round alone."""
    own = trial(number, score, **more)
    rows = [row | {name: value + 0.01 * row["round"] for name, value in metrics.items()} for row in own.history]
    return replace(own, history=TrialHistory((*rows[:-1], rows[-1] | {"kl": 0.5})))


def lines_of(run):
    """The panels of learning from rewards: a title, and by trial the rounds with their values."""
    found = {}
    for title, chart in panels_of(run).items():
        (values,) = chart["datasets"].values()
        lines = {row["group"]: {} for row in reversed(values)}
        for row in values:
            lines[row["group"]][row["round"]] = row["value"]
        found[title] = lines
    return found


def panels_of(run):
    return dict(next((plot.panels for plot in plots(run) if plot.name == "rewards"), ()))


def test_a_panel_for_each_metric_has_a_line_for_each_trial_and_the_winner_in_front(tmp_path):
    asked = questions()
    finals = [final("trial 1", 0.9, "t1", asked), final("trial 0", 0.5, "t0", asked)]
    records = [learning(0, 0.9), learning(1, 0.8), trial(2, 0.95, learner="lora")]
    run = Run.read(folder(tmp_path / "s", records, finals=finals, asked=asked))
    found = lines_of(run)
    assert [*found] == [
        "mean reward",
        "score on the search split",
        "entropy, nats per token",
        "length, tokens",
        "share of groups of equal rewards",
    ], "one value of kl is no line"
    assert all([*lines] == ["trial 1, the best", "trial 0"] for lines in found.values())
    assert found["mean reward"]["trial 1, the best"] == pytest.approx({1: 0.21, 2: 0.22, 3: 0.23, 4: 0.24})
    assert found["score on the search split"]["trial 1, the best"] == pytest.approx({1: 0.2, 2: 0.4, 3: 0.6, 4: 0.8})
    others, best, *_ = panels_of(run)["mean reward"]["layer"]
    assert best["transform"] == [{"filter": "datum.trial === 1"}]
    assert best["mark"]["strokeWidth"] > 2 * others["mark"]["strokeWidth"]


def test_six_of_many_trials_are_drawn_and_none_that_learned_nothing_from_rewards(tmp_path):
    records = [learning(i, 0.3 + 0.05 * i) for i in range(9)]
    lines = lines_of(Run.read(folder(tmp_path / "many", records)))["mean reward"]
    assert [*lines] == ["trial 8, the best", *(f"trial {i}" for i in range(7, 2, -1))]
    assert panels_of(Run.read(folder(tmp_path / "none", [trial(0, 0.5), trial(1, 0.4)]))) == {}
    assert panels_of(Run.read(folder(tmp_path / "short", [learning(0, 0.5, rounds=1)]))) == {}
    lost = Run.read(folder(tmp_path / "lost", [learning(0, 0.5, status="diverged")]))
    assert rewarded(lost) == []
    assert panels_of(lost) == {}


def test_completions_before_and_after_are_of_the_first_prompts_of_each_kind(tmp_path):
    """Not of those that training changed most: a reader would take them for typical."""
    asked = questions()
    after = final("trial 1", 0.9, "t1", asked, wrong="<b>42</b>")
    before = final(UNTOUCHED, 0.1, None, asked, None, seeds=1, wrong="I think not")
    lora = final("trial 0", 0.95, "t0", asked)
    records = [trial(0, 0.5, learner="lora"), learning(1, 0.5)]
    path = folder(tmp_path / "s", records, finals=[lora, after, before], asked=asked)
    found = before_after(Run.read(path))
    assert (found.name, found.start) == ("trial 1", "untouched base"), "the best that learned from rewards"
    assert [one.prompt for one in found.prompts] == [f"What is {i}?" for i in range(6)]
    assert [one.kind for one in found.prompts] == [*WORDS, *WORDS]
    for place, one in enumerate(found.prompts):
        assert (one.before.completion, one.before.score) == (before.completions[0][place], before.scores[0, place])
        assert (one.after.completion, one.after.score) == (after.completions[0][place], after.scores[0, place])
    text = page(path)
    shown = section(text, "before-after")
    rows = [re.findall(r"<pre>(.*?)</pre>", row) for row in re.findall(r"(?s)<tr>(.*?)</tr>", shown)][1:]
    assert [[html.unescape(cell) for cell in row] for row in rows] == [
        [one.prompt, one.answer, one.before.completion, one.after.completion] for one in found.prompts
    ]
    assert "<b>" not in shown
    assert "rewards" in sections(text)


def test_without_rewards_or_finalists_there_is_no_such_table(tmp_path):
    assert {"before-after", "rewards"}.isdisjoint(sections(page(confirmed(tmp_path / "supervised"))))
    assert before_after(Run.read(folder(tmp_path / "searched", [learning(0, 0.5)]))) is None
    asked = questions()
    alone = folder(tmp_path / "alone", [learning(0, 0.5)], finals=[final("trial 0", 0.5, "t0", asked)], asked=asked)
    assert before_after(Run.read(alone)) is None, "its base was not asked"
