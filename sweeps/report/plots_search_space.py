"""Charts of the search space, one per learner: the score against each hyperparameter, and parallel coordinates."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.report.chart_style import (
    ACCENT,
    INK,
    LOST,
    SMALL_HEIGHT,
    SOFT,
    in_lines,
    in_percent,
    jitter,
    picked,
    rows,
    rows_axis,
    rows_height,
    score_axis,
    short,
    wrapped,
)
from sweeps.report.plots_trials import MANY, Panels
from sweeps.report.searched_axes import AxisGroup
from sweeps.results.records import TrialRecord

MOST_LABELS = 6  # choices that have room on an axis
SHORT, TILTED = 18, 26  # characters of a line; choices that have fewer in all have room beside each other
ROW = 46  # pixels between two rows of the parallel coordinates


def slices(group: AxisGroup) -> Panels:
    """Draw the score against each hyperparameter, over its whole range, on the scale that it was searched on."""
    scores = [one.score or 0.0 for one in group.trials]
    low, high = in_percent(min(scores)), in_percent(max(scores))
    margin = 0.08 * (high - low) or 1.0
    ends = [round(low - 2 * margin, 2), round(high + margin, 2)]  # failed trials are at the foot
    return {axis: _slice(group, axis, ends) for axis in group.axes}


def _slice(group: AxisGroup, axis: str, ends: list[float]) -> Any:
    values = [
        {"trial": one.number, "value": _shown(group.axes[axis], group.values[one.trial_id][axis])}
        | {"score": in_percent(one.score or 0.0) if one in group.trials else ends[0], "jitter": jitter(one.number, 1)}
        | {"form": "lost" if one in group.lost else "pruned" if one.status == "pruned" else "kept"}
        for one in (*reversed(group.trials), *group.lost)
        if axis in group.values[one.trial_id]
    ]
    kind = "N" if isinstance(group.axes[axis], CategoricalDistribution) else "Q"
    shown = alt.Tooltip(f"value:{kind}", title=axis)
    base = alt.Chart().encode(
        *_value_axis(group.axes[axis]), score_axis("score, %", domain=ends, nice=False), tooltip=shown
    )
    size, best = 22 if len(group.trials) > MANY else 45, group.trials[0].number
    lost = alt.condition("datum.form === 'lost'", alt.value(LOST), alt.value(ACCENT))
    cross = alt.condition("datum.form === 'lost'", alt.value("cross"), alt.value("circle"))
    filled = alt.condition("datum.form === 'pruned'", alt.value(0), alt.value(0.75))
    dots = base.mark_point(size=size, strokeWidth=1.2).encode(stroke=lost, fill=lost, shape=cross, fillOpacity=filled)
    ring = base.transform_filter(f"datum.trial === {best}").mark_point(size=90, stroke=INK, strokeWidth=2)
    return alt.layer(dots, ring, picked(base, "point"), data=rows(values)).properties(height=SMALL_HEIGHT)


def _shown(distribution: BaseDistribution, value: Any) -> Any:
    """Return a value as the charts have it: a choice is a text."""
    return short(value) if isinstance(distribution, CategoricalDistribution) else value


def _value_axis(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return the x axis of the whole range of a hyperparameter. Points of choices get a jitter beside each other."""
    if isinstance(distribution, CategoricalDistribution):
        names = [short(choice) for choice in distribution.choices]
        form: dict[str, Any] = {"labelAngle": 0}
        if sum(map(len, names)) > SHORT:
            form = {"labelAngle": -60, "labelAlign": "right"}
        overlap: Any = False if len(names) <= MOST_LABELS else "greedy"
        axis = alt.Axis(**form, labelExpr=in_lines(names, TILTED), labelLimit=200, labelOverlap=overlap, grid=False)
        choice = alt.X("value:N", title=None, sort=names, scale=alt.Scale(domain=names), axis=axis)
        return choice, alt.XOffset("jitter:Q", scale=alt.Scale(domain=[-1, 1]))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    domain = [float(distribution.low), float(distribution.high)]
    scale = alt.Scale(type="log" if distribution.log else "linear", domain=domain, nice=False, padding=6)
    whole: dict[str, Any] = {"tickMinStep": 1} if isinstance(distribution, IntDistribution) else {}
    axis = alt.Axis(format="~s" if domain[1] >= 1e4 else "~g", tickCount=4, labelSeparation=4, grid=False, **whole)
    return (alt.X("value:Q", title=None, scale=scale, axis=axis),)


def parallel(group: AxisGroup) -> Panels:
    """Draw parallel coordinates: a row per hyperparameter, and a line per trial down to its score.

    The rows are horizontal so that long names fit. Nothing for a single hyperparameter or a single trial.
    """
    if len(group.axes) < 2 or len(group.trials) < 2:
        return {}
    names, best = [*group.axes, "score"], group.trials[0].number
    scores = [one.score or 0.0 for one in group.trials]
    low, high = min(scores), max(scores)
    values = [row for one in reversed(group.trials) for row in _line(group, one, low, (high - low) or 1.0)]
    ends = [(0.0, f"{100 * low:.1f} %"), (1.0, f"{100 * high:.1f} %")] if high > low else []
    texts = [
        {
            "name": name,
            "place": place,
            "text": text,
            "side": "left" if place < 0.02 else "right" if place > 0.98 else "center",
        }
        for name, labels in [*((axis, _labels(kind)) for axis, kind in group.axes.items()), ("score", ends)]
        for place, text in labels
    ]
    across = alt.X("place:Q", axis=None, scale=alt.Scale(domain=[-0.02, 1.02], nice=False))
    base = alt.Chart().encode(across, rows_axis(names), detail="trial:O", order="row:O")
    strength = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.12, 0.9]), legend=None)
    thin = base.mark_line(stroke=ACCENT, strokeWidth=1 if len(group.trials) > MANY else 1.5).encode(opacity=strength)
    top = base.transform_filter(f"datum.trial === {best}").mark_line(stroke=INK, strokeWidth=3)
    wide = base.mark_line(strokeWidth=12, opacity=0).encode(tooltip="trial:N")
    rules = alt.Chart(rows([{"name": name} for name in names])).mark_rule(stroke="var(--grey)").encode(rows_axis(names))
    written = [
        alt.Chart(rows([row for row in texts if row["side"] == side]))
        .mark_text(align=side, dy=15, fontSize=11, color=SOFT, lineBreak="\n")
        .encode(across, rows_axis(names), text="text:N")
        for side in ("left", "center", "right")
    ]
    lines = [one.properties(data=rows(values)) for one in (thin, top, picked(base, "line"), wide)]
    return {"": alt.layer(rules, *lines, *written).properties(height=rows_height(names, ROW))}


def _line(group: AxisGroup, one: TrialRecord, low: float, wide: float) -> list[dict[str, Any]]:
    """Return the points of a trial's line: at null where an axis was not active in the trial."""
    known, share = group.values[one.trial_id], ((one.score or 0.0) - low) / wide
    places = [_place(kind, known[axis]) if axis in known else None for axis, kind in group.axes.items()]
    return [
        {"trial": one.number, "name": name, "row": row, "place": place, "share": round(share**2, 3)}
        for row, (name, place) in enumerate(zip([*group.axes, "score"], [*places, round(share, 4)], strict=True))
    ]


def _place(distribution: BaseDistribution, value: Any) -> float:
    """Return where a value lies in its range, from 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return round(distribution.choices.index(value) / (len(distribution.choices) - 1), 4)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    place = math.log(value / low) / math.log(high / low) if distribution.log else (value - low) / (high - low)
    return round(place, 4)


def _labels(distribution: BaseDistribution) -> list[tuple[float, str]]:
    """Return place and text of the labels: both ends of a range, or every choice if there is room."""
    if isinstance(distribution, CategoricalDistribution):
        choices = [(_place(distribution, one), wrapped(short(one), SHORT)) for one in distribution.choices]
        return choices if sum(len(text) for _, text in choices) <= 2 * SHORT else [choices[0], choices[-1]]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [(0.0, short(distribution.low)), (1.0, short(distribution.high))]
