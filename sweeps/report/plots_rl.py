"""The figure of learning from rewards: reward, held-out score, entropy, KL and length after each round.

It is drawn for every learner that reports these metrics, whatever its name (docs/reference/metrics.md).
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sweeps.report.chart_style import HUES, INK, SMALL, SOFT, finite, integer_axis, legend_above, new_figure, short
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


def rewards(run: Run) -> Figure | None:
    """Draw a panel for each metric, a line per trial. None if no trial has two rounds with a reward."""
    shown = rewarded(run)[:MOST]
    panels = [name for name in PANELS if any(len(_line(one, name)[0]) > 1 for one in shown)]
    if REWARD not in panels:
        return None
    rows = -(-len(panels) // 2)
    figure, panes = new_figure(0.6 + 1.9 * rows, columns=2, rows=rows, sharex=True)
    for axes, name in zip(panes, panels, strict=False):
        _draw(axes, shown, name)
        axes.set_title(PANELS[name], loc="left", fontsize=SMALL, color=SOFT)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(float(value))))
        integer_axis(axes.xaxis, "round")
    for axes in panes[len(panels) :]:
        axes.remove()
    for axes in panes[: len(panels)][:-2]:
        axes.set_xlabel("")
    legend_above(figure, panes[0])
    return figure


def rewarded(run: Run) -> list[TrialRecord]:
    """Return the trials that report rewards and can win: the best of the finalists, then the highest scores."""
    known = [one for one in run.records if any(finite([row.get(REWARD)]) for row in one.history)]
    first = winner(known, run.finals)
    return sorted(by_score(known), key=lambda one: one is not first)


def _draw(axes: Axes, shown: list[TrialRecord], name: str) -> None:
    """Draw the lines of a metric, the first trial's thickest and in front. A single round is a dot."""
    for place, one in enumerate(shown):
        best: dict[str, Any] = {
            "color": INK,
            "linewidth": 2.6,
            "markersize": 5,
            "zorder": 3,
            "label": f"trial {one.number}, the best",
        }
        other: dict[str, Any] = {
            "color": HUES[place % len(HUES)],
            "linewidth": 1.2,
            "markersize": 3,
            "label": f"trial {one.number}",
        }
        axes.plot(*_line(one, name), marker="o", **(other if place else best))


def _line(record: TrialRecord, name: str) -> tuple[list[int], list[float]]:
    """Return the rounds in which a trial reported a metric, and its values."""
    known = [(row["round"], row[name]) for row in record.history if finite([row.get(name)])]
    return [at for at, _ in known], [value for _, value in known]
