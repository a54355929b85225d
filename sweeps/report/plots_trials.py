"""Charts of the trials: learning curves, search history, timeline, and score against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from sweeps.report.chart_style import (
    INK,
    colours,
    finite,
    in_percent,
    label_of,
    labels,
    picked,
    rows,
    score_axis,
    shapes,
)
from sweeps.results.pareto import costs, front
from sweeps.results.records import UNRANKED, TrialRecord, by_score, winner
from sweeps.results.run_folder import Run

MANY = 60  # trials; with more, marks are smaller
Panels = Mapping[str, Any]  # a title, which is empty for a chart alone -> an altair chart


def _entries(run: Run, shown: Sequence[TrialRecord]) -> list[tuple[str, str, str]]:
    """Return the legend of these trials, the winner's learner first."""
    best = winner(run.records, run.finals)
    return labels(shown, best.pair if best else "")


def curves(run: Run) -> Panels:
    """Draw the score after each round, a line per trial. Nothing if no trial has two rounds."""
    lines = {one.number: _score_per_round(one) for one in run.records}
    if max(map(len, lines.values()), default=0) < 2:
        return {}
    shown = [one for one in run.records if lines[one.number]]
    best, entries = winner(run.records, run.finals), _entries(run, shown)
    values = [
        {"trial": one.number, "group": label_of(one), "round": round_, "score": in_percent(score)}
        for one in sorted(shown, key=lambda one: (one is best, one.status != "pruned"))
        for round_, score in lines[one.number]
    ]
    axis = alt.X("round:Q", axis=alt.Axis(tickMinStep=1, format="d", grid=False), scale=alt.Scale(zero=False))
    base = alt.Chart().encode(axis, score_axis(), detail="trial:O")
    thin = base.mark_line(strokeWidth=1 if len(shown) > MANY else 1.6, opacity=0.75).encode(colours(entries))
    top = base.transform_filter(f"datum.trial === {best.number if best else -1}").mark_line(strokeWidth=3, stroke=INK)
    wide = base.mark_line(strokeWidth=12, opacity=0).encode(tooltip="trial:N")
    dots = base.mark_point(size=90, opacity=0, fill="white").encode(
        tooltip=["round:Q", alt.Tooltip("score:Q", title="score, %")]
    )
    ends = base.mark_point(size=14, filled=True, opacity=1).encode(colours(entries))
    return {"": alt.layer(thin, ends, top, picked(base, "line"), wide, dots, data=rows(values))}


def _score_per_round(record: TrialRecord) -> list[tuple[int, float]]:
    """Return round and score of each round that has a score."""
    scored = [row for row in record.history if not row.get("diverged")]
    return [(row["round"], row["score"]) for row in scored if finite([row.get("score")])]


def history(run: Run) -> Panels:
    """Draw the score by trial number, and the best so far. Nothing for a single trial."""
    shown = [one for one in run.records if one.score is not None and math.isfinite(one.score)]
    if len(shown) < 2:
        return {}
    highest, values = 0.0, []
    for one in shown:
        if one.status not in UNRANKED:
            highest = max(highest, one.score or 0.0)
        values.append(_point(one, one.number) | {"best": in_percent(highest)})
    title = "trial number, in order of start"
    scale = alt.Scale(nice=False, padding=8)
    axis = alt.X("place:Q", title=title, scale=scale, axis=alt.Axis(tickMinStep=1, format="d", grid=False))
    stairs = alt.Chart().mark_line(interpolate="step-after", stroke=INK, strokeWidth=1.4)
    so_far = stairs.encode(axis, score_axis(field="best"))
    return {"": alt.layer(so_far, *_dots(axis, _entries(run, shown), len(shown)), data=rows(values))}


def _point(record: TrialRecord, place: float) -> dict[str, Any]:
    """Return a row of a chart with a point per trial."""
    score = in_percent(record.score or 0.0)
    return {"trial": record.number, "group": label_of(record), "place": place, "score": score}


def _dots(axis: Any, entries: Sequence[tuple[str, str, str]], count: int) -> list[Any]:
    """Return the layers of a chart with a point per trial: hollow if it was pruned, a cross if it failed."""
    base = alt.Chart().encode(axis, score_axis(), tooltip="trial:N")
    size, kept = (28, 0.9) if count > MANY else (60, 1.0)
    filled = alt.condition("datum.group === 'pruned'", alt.value(0), alt.value(kept))
    stroke, fill = colours(entries, alt.Stroke), colours(entries, alt.Fill, legend=False)
    dots = base.mark_point(size=size, strokeWidth=1.4).encode(stroke, fill, shapes(entries), fillOpacity=filled)
    return [dots, picked(base, "point")]


def timeline(run: Run) -> Panels:
    """Draw when each trial ran, a bar per round. Nothing for a single trial, or without recorded times."""
    bars = {one.number: round_spans(one) for one in run.records}
    if len([spans for spans in bars.values() if spans]) < 2:
        return {}
    zero = min(start for spans in bars.values() for start, _ in spans)
    length = max(start + wide for spans in bars.values() for start, wide in spans) - zero
    unit, name = (60.0, "minutes") if length > 180 else (1.0, "seconds")
    shown = [one for one in run.records if bars[one.number]]
    values = [
        {"trial": one.number, "group": label_of(one), "low": one.number - 0.4, "high": one.number + 0.4}
        | {"start": round((start - zero) / unit, 3), "end": round((start + wide - zero) / unit, 3)}
        for one in shown
        for start, wide in bars[one.number]
    ]
    wide = alt.Scale(nice=False)
    across = alt.X("start:Q", title=f"{name} since the start of the first trial", scale=wide), alt.X2("end:Q")
    axis = alt.Axis(tickMinStep=1, format="d", grid=False)
    down = (
        alt.Y("low:Q", title="trial", axis=axis, scale=alt.Scale(reverse=True, nice=False, zero=False)),
        alt.Y2("high:Q"),
    )
    base = alt.Chart().encode(*across, *down, tooltip="trial:N")
    edge: dict[str, Any] = {"stroke": "var(--paper)", "strokeWidth": 0.6} if len(shown) <= MANY else {}
    drawn = base.mark_rect(**edge).encode(colours(_entries(run, shown)))
    height = min(520, 90 + 13 * len(shown))
    return {"": alt.layer(drawn, picked(base, "bar"), data=rows(values)).properties(height=height)}


def round_spans(record: TrialRecord) -> list[tuple[float, float]]:
    """Return start (Unix time) and duration of each round, in seconds of wall time, not of the trial's own work."""
    passed = [0.0, *(row.get("time_s", 0.0) for row in record.history)]
    spans = zip(record.history, passed[1:], passed, strict=False)
    timed = [finite([row.get("at"), after - before]) for row, after, before in spans]
    return [(both[0] - both[1], both[1]) for both in timed if len(both) == 2 and both[1] > 0]


COSTS = {"trainable_parameters": "trainable parameters", "seconds": "seconds up to the best round"}


def pareto(run: Run) -> Panels:
    """Draw the score against each cost, with the Pareto front. Nothing if all trials cost the same."""
    panels = {}
    for key, label in COSTS.items():
        known = [(one, costs(one, [key])[0]) for one in by_score(run.records)]
        known = [(one, cost) for one, cost in known if 0 < cost < math.inf]
        if len({round(cost, 3) for _, cost in known}) > 1:
            panels[label] = _against_cost(run, key, label, known)
    return panels if len(panels) > 1 else dict(zip([""], panels.values(), strict=False))


def _against_cost(run: Run, key: str, label: str, known: Sequence[tuple[TrialRecord, float]]) -> Any:
    places = {one.trial_id: cost for one, cost in known}
    best = front([one for one, _ in known], ["score", key])
    scale: Any = "log" if max(places.values()) > 8 * min(places.values()) else "linear"
    shown = alt.Scale(type=scale, zero=False, nice=False, padding=12)
    axis = alt.X("place:Q", title=label, scale=shown, axis=alt.Axis(format="~s", tickCount=4, grid=False))
    stairs = sorted((_point(one, places[one.trial_id]) for one in best), key=lambda row: row["place"])
    line = alt.Chart(rows(stairs)).mark_line(interpolate="step-after", stroke=INK, strokeWidth=1.4)
    dots = _dots(axis, _entries(run, [one for one, _ in known]), len(known))
    values = rows([_point(one, cost) for one, cost in known])
    return alt.layer(line.encode(axis, score_axis()), *(one.properties(data=values) for one in dots)).properties(
        height=240
    )
