"""The charts of learning from rewards: reward, held-out score, entropy, KL and length after each round.

They are drawn for every learner that reports these metrics, whatever its name (docs/reference/metrics.md).
"""

from __future__ import annotations

from typing import Any

import altair as alt

from sweeps.report.chart_style import HUES, INK, SMALL_HEIGHT, Label, colours, finite, picked, rows
from sweeps.report.plots_trials import Panels
from sweeps.results.records import TrialRecord, by_score, winner
from sweeps.results.run_folder import Run

MOST = 6  # trials; more lines would be hard to tell apart
REWARD = "reward"  # the metric that says that a trial learns from rewards
PANELS = {  # metric -> title
    REWARD: "mean reward",
    "score": "score on the search split",
    "entropy": "entropy, nats per token",
    "kl": "KL from the start, nats per token",
    "completions/mean_length": "length, tokens",
    "frac_reward_zero_std": "share of groups of equal rewards",
}


def rewards(run: Run) -> Panels:
    """Draw a panel for each metric, a line per trial. Nothing if no trial has two rounds with a reward."""
    shown = rewarded(run)[:MOST]
    names = [name for name in PANELS if any(len(_line(one, name)) > 1 for one in shown)]
    if REWARD not in names:
        return {}
    entries = [(_name(i, one), HUES[i % len(HUES)] if i else INK, "circle") for i, one in enumerate(shown)]
    return {PANELS[name]: _panel(shown, name, entries) for name in names}


def rewarded(run: Run) -> list[TrialRecord]:
    """Return the trials that report rewards and can win: the best of the finalists, then the highest scores."""
    known = [one for one in run.records if any(finite([row.get(REWARD)]) for row in one.history)]
    first = winner(known, run.finals)
    return sorted(by_score(known), key=lambda one: one is not first)


def _name(place: int, record: TrialRecord) -> str:
    return f"trial {record.number}" if place else f"trial {record.number}, the best"


def _panel(shown: list[TrialRecord], metric: str, entries: list[Label]) -> Any:
    """Return the chart of a metric, with the first trial's line thickest and in front. A single round is a dot."""
    values = [
        {"trial": one.number, "group": _name(place, one), "round": at, "value": value}
        for place, one in reversed([*enumerate(shown)])
        for at, value in _line(one, metric)
    ]
    x = alt.X("round:Q", axis=alt.Axis(tickMinStep=1, format="d", grid=False), scale=alt.Scale(zero=False))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    base = alt.Chart().encode(x, y, colours(entries), detail="trial:O")
    is_best = f"datum.trial === {shown[0].number}"
    others = base.transform_filter(f"!({is_best})").mark_line(strokeWidth=1.2)
    best = base.transform_filter(is_best).mark_line(strokeWidth=2.6)
    dots = base.mark_point(size=20, filled=True, opacity=1).encode(tooltip=["trial:N", "round:Q", "value:Q"])
    layered = alt.layer(others, best, dots, picked(base, "line"), data=rows(values))
    return layered.properties(height=SMALL_HEIGHT)


def _line(record: TrialRecord, name: str) -> list[tuple[int, float]]:
    """Return the rounds in which a trial reported a metric, each with its value."""
    return [(row["round"], row[name]) for row in record.history if finite([row.get(name)])]
