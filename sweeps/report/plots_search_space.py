"""Figures of the search space, one per learner: the score against each hyperparameter, and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.report.chart_style import (
    ACCENT,
    GREY,
    INK,
    LOST,
    SMALL,
    SOFT,
    jitter,
    log_ticks,
    new_figure,
    score_axis,
    short,
    truncated,
    wrapped,
)
from sweeps.report.searched_axes import AxisGroup
from sweeps.results.records import TrialRecord


def slices(group: AxisGroup) -> Figure | None:
    """Draw the score against each hyperparameter, over its whole range, on the scale that it was searched on."""
    columns = min(3, len(group.axes))
    rows = -(-len(group.axes) // columns)
    figure, panes = new_figure(0.4 + (2.1 if columns > 1 else 2.6) * rows, columns, rows, sharey=True)
    for pane in panes[len(group.axes) :]:
        pane.remove()
    for number, (pane, (axis, distribution)) in enumerate(zip(panes, group.axes.items(), strict=False)):
        _set_range(pane, distribution, columns)
        _scatter_axis(pane, group, axis)
        pane.set_xlabel(wrapped(axis, 20 if columns > 1 else 60), fontsize=SMALL)
        pane.tick_params(labelsize=SMALL)
        pane.margins(y=0.1)
        if number % columns == 0:
            score_axis(pane.yaxis)
            pane.set_ylabel("score, %", fontsize=SMALL)
    return figure


def _scatter_axis(pane: Axes, group: AxisGroup, axis: str) -> None:
    """Draw a dot per trial: the best with a ring, pruned ones hollow. Failed trials are crosses at the foot."""
    size, best = 12 if len(group.trials) > 60 else 24, group.trials[0]
    pruned = [one for one in group.trials[1:] if one.status == "pruned"]
    kept = [one for one in group.trials[1:] if one.status != "pruned"]
    forms: list[tuple[list[TrialRecord], dict[str, Any]]] = [
        (pruned, {"s": size, "facecolor": "white", "edgecolor": GREY, "zorder": 2}),
        (kept, {"s": size, "color": ACCENT, "alpha": 0.8, "linewidth": 0, "zorder": 3}),
        ([best], {"s": 2 * size, "color": ACCENT, "edgecolor": INK, "linewidth": 1.6, "zorder": 4}),
    ]
    for trials, form in forms:
        places = _points_of(group, trials, axis)
        pane.scatter([x for x, _ in places], [y for _, y in places], **form)
    lost, foot = [x for x, _ in _points_of(group, group.lost, axis)], pane.get_xaxis_transform()
    pane.scatter(lost, [0.03] * len(lost), s=size, color=LOST, marker="x", transform=foot, clip_on=False)


def _points_of(group: AxisGroup, trials: Sequence[TrialRecord], axis: str) -> list[tuple[float, float]]:
    """Return value and score of each trial. Choices get a jitter, so that equal ones do not hide each other."""
    distribution, found = group.axes[axis], []
    for one in trials:
        values = group.values[one.trial_id]
        if axis in values:
            value = values[axis]
            if isinstance(distribution, CategoricalDistribution):
                value = distribution.choices.index(value) + jitter(one.number)
            found.append((float(value), one.score or 0.0))
    return found


def _set_range(pane: Axes, distribution: BaseDistribution, columns: int) -> None:
    """Show the whole range of a hyperparameter with a small margin."""
    if isinstance(distribution, CategoricalDistribution):
        count = len(distribution.choices)
        room = max(4, (20 if columns > 1 else 60) // count)
        pane.set_xlim(-0.5, count - 0.5)
        pane.set_xticks(range(count), [truncated(short(choice), room) for choice in distribution.choices])
        pane.grid(axis="x", visible=False)
        return
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        pane.set_xscale("log")
        margin = (high / low) ** 0.05
        pane.set_xlim(low / margin, high * margin)
        log_ticks(pane.xaxis, low, high)
    else:
        margin = 0.05 * (high - low)
        pane.set_xlim(low - margin, high + margin)
        pane.xaxis.set_major_locator(MaxNLocator(4, integer=isinstance(distribution, IntDistribution)))
        pane.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(float(value))))


def parallel(group: AxisGroup) -> Figure | None:
    """Draw parallel coordinates: a row per hyperparameter, and a line per trial down to its score.

    The rows are horizontal so that long names fit. None for a single hyperparameter or a single trial.
    """
    if len(group.axes) < 2 or len(group.trials) < 2:
        return None
    names, scores = [*group.axes, "score"], [one.score or 0.0 for one in group.trials]
    low, high = min(scores), max(scores)
    wide = (high - low) or 1.0
    figure, (axes,) = new_figure(1.0 + 0.56 * len(names))
    colours = LinearSegmentedColormap.from_list("scores", ["#d9dde1", "#8fb5a6", ACCENT])
    many = len(group.trials) > 60
    for one in reversed(group.trials):
        share, best = ((one.score or 0.0) - low) / wide, one is group.trials[0]
        values = group.values[one.trial_id]
        places = [
            _relative_place(kind, values[axis]) if axis in values else math.nan for axis, kind in group.axes.items()
        ]
        style: dict[str, Any] = {"color": colours(share**2), "linewidth": 1.2, "alpha": 0.55 if many else 0.9}
        if best:
            style = {"color": INK, "linewidth": 2.4, "zorder": 3}
        axes.plot([*places, share], range(len(names)), **style)
    for row, distribution in enumerate(group.axes.values()):
        _write_labels(axes, row, _labels(distribution))
    _write_labels(
        axes, len(names) - 1, [(0.0, f"{100 * low:.1f} %"), (1.0, f"{100 * high:.1f} %")] if high > low else []
    )
    axes.set_yticks(range(len(names)), [wrapped(name, 20) for name in names], color=INK, fontsize=SMALL)
    axes.set_ylim(len(names) - 0.4, -0.5)
    axes.set_xlim(-0.08, 1.08)
    axes.xaxis.set_ticks([])
    axes.grid(axis="y", color=GREY)
    axes.set_xlabel("black: the best trial; darker green: higher score (%)")
    axes.set_ylabel("hyperparameter, from its lowest to its highest value")
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _relative_place(distribution: BaseDistribution, value: Any) -> float:
    """Return where a value lies in its range, from 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / (len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    return math.log(value / low) / math.log(high / low) if distribution.log else (value - low) / (high - low)


def _labels(distribution: BaseDistribution) -> list[tuple[float, str]]:
    """Return place and text of the labels: both ends of a range, or every choice."""
    if isinstance(distribution, CategoricalDistribution):
        room = max(4, 60 // len(distribution.choices))
        return [(_relative_place(distribution, one), truncated(short(one), room)) for one in distribution.choices]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [(0.0, short(distribution.low)), (1.0, short(distribution.high))]


def _write_labels(axes: Axes, row: int, labels: Sequence[tuple[float, str]]) -> None:
    for place, text in labels:
        axes.annotate(
            text, (place, row), (0, -4), textcoords="offset points", ha="center", va="top", color=SOFT,
            fontsize=SMALL, zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
        )  # fmt: skip
