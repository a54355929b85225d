"""The style of all charts: one palette for light and dark pages, and text that fits a wide screen and a phone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import numpy as np
import vl_convert

from sweeps.results.records import UNRANKED, TrialRecord

# The page has a CSS variable for each colour, so that its charts follow it into the dark.
LIGHT = {
    "ink": "#22282e", "soft": "#5c656e", "grey": "#a9b0b7", "pale": "#e4e7ea", "paper": "#ffffff", "lost": "#a34a3f",
    "picked": "#d4570b", "hue1": "#1f6f54", "hue2": "#4467a8", "hue3": "#b9791f", "hue4": "#83508c", "hue5": "#3f8fa3",
}  # fmt: skip
DARK = {
    "ink": "#e6e9ec", "soft": "#a7b0b8", "grey": "#6f7982", "pale": "#353c43", "paper": "#181c20", "lost": "#e0877b",
    "picked": "#ff9a4d", "hue1": "#5fc49d", "hue2": "#8fb0ef", "hue3": "#e0ad5b", "hue4": "#cd9ad6", "hue5": "#7fc6d9",
}  # fmt: skip
INK, SOFT, GREY, PALE, LOST, PICKED = (f"var(--{name})" for name in ("ink", "soft", "grey", "pale", "lost", "picked"))
HUES = tuple(f"var(--hue{number})" for number in range(1, 6))  # colours of learners
ACCENT = HUES[0]
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down")
TEXT = {"labelColor": SOFT, "titleColor": SOFT, "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12}
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif",
    "view": {"stroke": None},
    "axis": TEXT | {"gridColor": PALE, "domainColor": GREY, "tickColor": GREY, "labelLimit": 140},
    "axisQuantitative": {"labelOverlap": "greedy", "labelSeparation": 6},
    "legend": TEXT | {"orient": "top", "labelLimit": 320, "symbolSize": 60, "symbolStrokeWidth": 2},
}
HEIGHT, SMALL_HEIGHT = 280, 150  # pixels, of a plot alone and of one among several
LEGEND_COLUMN, LEGEND_LINE = 20, 38  # characters in one of two columns of a legend on a phone, and in its only one
SELECTED = "isValid(selected) && datum.trial === selected"  # `selected` is a parameter that the page's script sets
PICTURE = (620, 190)  # pixels: the width of a plot in a PNG file, alone and among several
Label = tuple[str, str, str]  # of a legend: text, colour, shape


def in_percent(score: float) -> float:
    """Return a score in [0, 1] in per cent, with as many digits as can be seen."""
    return round(100 * score, 2)


def score_axis(title: str = "score on the search split, %", field: str = "score", **scale: Any) -> Any:
    """Return a y axis of scores in per cent."""
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(**({"zero": False} | scale)))


def rows_axis(names: Sequence[str], room: int = 18, **scale: Any) -> Any:
    """Return a y axis with a row for each name of the field `name`; long ones have several lines."""
    shown = in_lines(names, room)
    axis = alt.Axis(labelExpr=shown, labelColor=INK, labelLimit=170, grid=False, domain=False, ticks=False)
    return alt.Y("name:N", sort=list(names), title=None, axis=axis, scale=alt.Scale(**scale))


def rows_height(names: Sequence[str], least: int, room: int = 18) -> int:
    """Return the height of a chart with these rows in pixels: at least `least` for each, and enough for its lines."""
    return len(names) * max(least, 15 * max(wrapped(name, room).count("\n") + 1 for name in names) + 4)


def label_of(record: TrialRecord) -> str:
    """Return what a trial is called in a legend: by its end if that was early, else by its pair."""
    if record.status in UNRANKED:
        return "diverged or failed"
    return "pruned" if record.status == "pruned" else record.pair


def labels(records: Sequence[TrialRecord], first: str = "") -> list[Label]:
    """Return the entries of a legend for these trials, the pair `first` first, and early ends last."""
    pairs = sorted(dict.fromkeys(one.pair for one in records), key=lambda pair: pair != first)
    known = [(pair, HUES[i % len(HUES)], SHAPES[i % len(SHAPES)]) for i, pair in enumerate(pairs)]
    known += [("pruned", GREY, "circle"), ("diverged or failed", LOST, "cross")]
    used = {label_of(one) for one in records}
    return [one for one in known if one[0] in used]


def colours(entries: Sequence[Label], channel: Any = alt.Color, legend: bool = True) -> Any:
    """Return the colour of the field `group`, with a legend if there are several entries."""
    names = [name for name, _, _ in entries]
    scale = alt.Scale(domain=names, range=[colour for _, colour, _ in entries])
    return channel("group:N", title=None, scale=scale, legend=_legend(names) if legend else None)


def shapes(entries: Sequence[Label]) -> Any:
    """Return the shape of the field `group`, which joins the legend of its colour."""
    names = [name for name, _, _ in entries]
    scale = alt.Scale(domain=names, range=[shape for *_, shape in entries])
    return alt.Shape("group:N", title=None, scale=scale, legend=_legend(names))


def _legend(names: Sequence[str]) -> Any:
    columns = 2 if max(map(len, names), default=0) <= LEGEND_COLUMN else 1
    return alt.Legend(columns=columns, labelExpr=in_lines(names, LEGEND_LINE)) if len(names) > 1 else None


def rows(values: Sequence[dict[str, Any]]) -> Any:
    """Return a chart's data, a dictionary per row."""
    return alt.InlineData(values=list(values))


def panel_spec(chart: Any, height: int) -> dict[str, Any]:
    """Return a chart as Vega-Lite with its data. Its width is that of its place on the page."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    own = spec.pop("datasets", {})
    size = {"width": "container", "height": spec.get("height", height)}
    return {name: value for name, value in spec.items() if name != "config"} | size | {"datasets": own}


def whole_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a specification with the style, and with the parameter that says which trial is selected."""
    fit = {"type": "fit-x", "contains": "padding"}
    return spec | {"config": CONFIG, "autosize": fit, "params": [{"name": "selected", "value": None}]}


def standalone(panels: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return charts, each with its title, as one specification of Vega-Lite on white, which needs no page."""
    width, columns = PICTURE[len(panels) > 1], min(3, len(panels))
    datasets = {name: values for _, spec in panels for name, values in spec["datasets"].items()}
    shown = [
        {name: value for name, value in spec.items() if name not in ("datasets", "$schema")}
        | {"width": width, "title": title}
        for title, spec in panels
    ]
    spec = whole_spec({"concat": shown, "columns": columns, "datasets": datasets})
    text = json.dumps({name: value for name, value in spec.items() if name != "autosize"})
    for name, colour in LIGHT.items():
        text = text.replace(f"var(--{name})", colour)
    return json.loads(text) | {"background": LIGHT["paper"]}


def picture(panels: Sequence[tuple[str, dict[str, Any]]]) -> bytes:
    """Return charts, each with its title, as one PNG file on white."""
    return vl_convert.vegalite_to_png(standalone(panels), scale=2)


def short(value: Any) -> str:
    """Format a value in few characters: `0.0015`, `1.2k`, `1.1M`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e4:
        return f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value / 1e3:.3g}k"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.4g}"


def truncated(text: str, room: int) -> str:
    """Cut a text to at most `room` characters."""
    return text if len(text) <= room else f"{text[: max(room - 1, 1)]}…"


def wrapped(name: str, room: int) -> str:
    """Break a name into lines of at most `room` characters, after punctuation and spaces if possible."""
    lines = [""]
    for part in re.findall(r"[^_ @/.-]*[_ @/.-]|.+", name):
        if lines[-1] and len((lines[-1] + part).rstrip()) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(truncated(line.rstrip(), room) for line in lines)


def in_lines(names: Sequence[str], room: int) -> str:
    """Return the Vega expression that shows these labels of an axis or a legend in lines of `room` characters."""
    return f"{json.dumps({name: wrapped(name, room).split(chr(10)) for name in names})}[datum.value]"


def jitter(number: int, width: float = 0.3) -> float:
    """Return a deterministic offset for a trial's point, so that points at one place do not cover each other."""
    return width * ((number * 0.6180339887) % 1 - 0.5)


def finite(values: Sequence[Any]) -> list[float]:
    """Return the finite numbers among the values."""
    return [float(v) for v in values if isinstance(v, int | float | np.number) and math.isfinite(v)]


Form = Literal["line", "point", "bar"]


def picked(chart: Any, form: Form) -> Any:
    """Return a layer that shows the selected trial of a chart with the fields `trial`, on top of the others."""
    own = chart.transform_filter(SELECTED)
    if form == "line":
        return own.mark_line(strokeWidth=4, stroke=PICKED)
    if form == "bar":
        return own.mark_rect(fill=PICKED)
    return own.mark_point(size=220, stroke=PICKED, strokeWidth=2.5, fillOpacity=0, shape="circle")
