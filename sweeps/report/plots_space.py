"""Figures of the search space: which values did well, and how values went together. Axes are those of one learner."""

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
    aside,
    folded,
    plain_log,
    score_axis,
    sheet,
    short,
    shortened,
)
from sweeps.report.searched_axes import Group
from sweeps.results.records import TrialRecord


def slices(group: Group) -> Figure | None:
    """Score against each axis, its whole range, on a logarithmic axis where it was searched on one."""
    columns = min(3, len(group.axes))
    rows = -(-len(group.axes) // columns)
    figure, panes = sheet(0.4 + (2.1 if columns > 1 else 2.6) * rows, columns, rows, sharey=True)
    for pane in panes[len(group.axes) :]:
        pane.remove()
    for number, (pane, (axis, distribution)) in enumerate(zip(panes, group.axes.items(), strict=False)):
        _scale(pane, distribution, columns)
        _dots(pane, group, axis)
        pane.set_xlabel(folded(axis, 20 if columns > 1 else 60), fontsize=SMALL)
        pane.tick_params(labelsize=SMALL)
        pane.margins(y=0.1)
        if number % columns == 0:
            score_axis(pane.yaxis)
            pane.set_ylabel("score, %", fontsize=SMALL)
    return figure


def _dots(pane: Axes, group: Group, axis: str) -> None:
    """The best ringed, pruned ones hollow, lost ones a cross at the foot: their scores mean nothing."""
    size, best = 12 if len(group.trials) > 60 else 24, group.trials[0]
    pruned = [one for one in group.trials[1:] if one.status == "pruned"]
    kept = [one for one in group.trials[1:] if one.status != "pruned"]
    forms: list[tuple[list[TrialRecord], dict[str, Any]]] = [
        (pruned, {"s": size, "facecolor": "white", "edgecolor": GREY, "zorder": 2}),
        (kept, {"s": size, "color": ACCENT, "alpha": 0.8, "linewidth": 0, "zorder": 3}),
        ([best], {"s": 2 * size, "color": ACCENT, "edgecolor": INK, "linewidth": 1.6, "zorder": 4}),
    ]
    for trials, form in forms:
        places = _places(group, trials, axis)
        pane.scatter([x for x, _ in places], [y for _, y in places], **form)
    lost, foot = [x for x, _ in _places(group, group.lost, axis)], pane.get_xaxis_transform()
    pane.scatter(lost, [0.03] * len(lost), s=size, color=LOST, marker="x", transform=foot, clip_on=False)


def _places(group: Group, trials: Sequence[TrialRecord], axis: str) -> list[tuple[float, float]]:
    """Value and score: numbers where they are, choices beside their place, so that all are seen."""
    distribution, found = group.axes[axis], []
    for one in trials:
        values = group.values[one.trial_id]
        if axis in values:
            value = values[axis]
            if isinstance(distribution, CategoricalDistribution):
                value = distribution.choices.index(value) + aside(one.number)
            found.append((float(value), one.score or 0.0))
    return found


def _scale(pane: Axes, distribution: BaseDistribution, columns: int) -> None:
    """The axis' whole range, with a little air."""
    if isinstance(distribution, CategoricalDistribution):
        count = len(distribution.choices)
        room = max(4, (20 if columns > 1 else 60) // count)
        pane.set_xlim(-0.5, count - 0.5)
        pane.set_xticks(range(count), [shortened(short(choice), room) for choice in distribution.choices])
        pane.grid(axis="x", visible=False)
        return
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        pane.set_xscale("log")
        air = (high / low) ** 0.05
        pane.set_xlim(low / air, high * air)
        plain_log(pane.xaxis, low, high)
    else:
        air = 0.05 * (high - low)
        pane.set_xlim(low - air, high + air)
        pane.xaxis.set_major_locator(MaxNLocator(4, integer=isinstance(distribution, IntDistribution)))
        pane.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(float(value))))


def parallel(group: Group) -> Figure | None:
    """A row per axis and a line per trial, from its values at the top to its score at the foot.

    Rows lie so that long names have room. Nothing for a single axis or a single trial.
    """
    if len(group.axes) < 2 or len(group.trials) < 2:
        return None
    names, scores = [*group.axes, "score"], [one.score or 0.0 for one in group.trials]
    low, high = min(scores), max(scores)
    wide = (high - low) or 1.0
    figure, (axes,) = sheet(1.0 + 0.56 * len(names))
    colours = LinearSegmentedColormap.from_list("scores", ["#d9dde1", "#8fb5a6", ACCENT])
    many = len(group.trials) > 60
    for one in reversed(group.trials):
        share, best = ((one.score or 0.0) - low) / wide, one is group.trials[0]
        values = group.values[one.trial_id]
        places = [_share(kind, values[axis]) if axis in values else math.nan for axis, kind in group.axes.items()]
        look: dict[str, Any] = {"color": colours(share**2), "linewidth": 1.2, "alpha": 0.55 if many else 0.9}
        if best:
            look = {"color": INK, "linewidth": 2.4, "zorder": 3}
        axes.plot([*places, share], range(len(names)), **look)
    for row, distribution in enumerate(group.axes.values()):
        _values(axes, row, _labels(distribution))
    _values(axes, len(names) - 1, [(0.0, f"{100 * low:.1f} %"), (1.0, f"{100 * high:.1f} %")] if high > low else [])
    axes.set_yticks(range(len(names)), [folded(name, 20) for name in names], color=INK, fontsize=SMALL)
    axes.set_ylim(len(names) - 0.4, -0.5)
    axes.set_xlim(-0.08, 1.08)
    axes.xaxis.set_ticks([])
    axes.grid(axis="y", color=GREY)
    axes.set_xlabel("dark: the best; the greener, the higher the score (%)")
    axes.set_ylabel("axis, from its lowest value to its highest")
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _share(distribution: BaseDistribution, value: Any) -> float:
    """A value's place in its range, from 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / (len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    return math.log(value / low) / math.log(high / low) if distribution.log else (value - low) / (high - low)


def _labels(distribution: BaseDistribution) -> list[tuple[float, str]]:
    """Both ends of a range, or every choice."""
    if isinstance(distribution, CategoricalDistribution):
        room = max(4, 60 // len(distribution.choices))
        return [(_share(distribution, one), shortened(short(one), room)) for one in distribution.choices]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [(0.0, short(distribution.low)), (1.0, short(distribution.high))]


def _values(axes: Axes, row: int, labels: Sequence[tuple[float, str]]) -> None:
    for place, text in labels:
        axes.annotate(
            text, (place, row), (0, -4), textcoords="offset points", ha="center", va="top", color=SOFT,
            fontsize=SMALL, zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
        )  # fmt: skip
