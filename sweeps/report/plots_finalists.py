"""The chart of the finalists: scores on the test split with intervals, and a tick for each seed."""

from __future__ import annotations

import altair as alt

from sweeps.report.chart_style import ACCENT, GREY, HUES, PICKED, SELECTED, in_percent, rows, rows_axis, rows_height
from sweeps.report.headline import trial_title
from sweeps.report.plots_trials import Panels
from sweeps.results.run_folder import Run


def finalists(run: Run) -> Panels:
    """Draw a row per finalist, the best first. Nothing without two finalists."""
    if len(run.finals) < 2:
        return {}
    trials, bounds = {one.trial_id: one for one in run.records}, run.confirmation.bounds()
    values, seeds, names = [], [], []
    for one in run.finals:
        record = trials.get(one.trial_id or "")
        name, interval = trial_title(run, record, one.name), bounds[one.name]
        own = {"name": name, "trial": record.number if record else None, "group": "trained" if record else "before"}
        ends = {"low": in_percent(interval[0]), "high": in_percent(interval[1])} if interval else {}
        values.append(own | ends | {"score": in_percent(one.score)})
        seeds += [own | {"seed": in_percent(score)} for score in one.scores.mean(1) if len(one.scores) > 1]
        names.append(name)
    title, scale = "score on the test split, %", alt.Scale(zero=False)
    colour = alt.condition("datum.group === 'trained'", alt.value(ACCENT), alt.value(GREY))
    base = alt.Chart(rows(values)).encode(rows_axis(names))
    shown = ["name:N", *(alt.Tooltip(f"{field}:Q", title=f"{field}, %") for field in ("score", "low", "high"))]
    lines = base.mark_rule(strokeWidth=3).encode(
        alt.X("low:Q", title=title, scale=scale), alt.X2("high:Q"), color=colour
    )
    score = alt.X("score:Q", title=title, scale=scale)
    dots = base.mark_point(size=110, filled=True, opacity=1).encode(score, color=colour, tooltip=shown)
    ticks = (
        alt.Chart(rows(seeds))
        .mark_tick(thickness=1.5, size=18, color=HUES[1])
        .encode(
            rows_axis(names),
            alt.X("seed:Q", title=title, scale=scale),
            tooltip=["name:N", alt.Tooltip("seed:Q", title="one seed, %")],
        )
    )
    ring = base.transform_filter(SELECTED).mark_point(size=300, stroke=PICKED, strokeWidth=2.5).encode(score)
    return {"": alt.layer(lines, ticks, dots, ring).properties(height=rows_height(names, 40))}
