"""The style of all figures: one width and palette, legible on paper and on a phone, and no overlapping text."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

WIDTH = 6.6  # inches; the page shows a figure about 650 px wide, and 350 px on a phone
INK, SOFT, GREY, PALE, ACCENT = "#22282e", "#5c656e", "#a9b0b7", "#e4e7ea", "#1f6f54"
HUES = (ACCENT, "#4467a8", "#b9791f", "#83508c", "#a34a3f", "#3f8fa3")  # colours of learners, in the sweep's order
LOST = "#a34a3f"  # trials that diverged or failed
MARKS = "os^Dvp"
SMALL = 10  # points, for figures with many labels

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure is the same everywhere
    "font.size": 11.5,
    "text.color": INK,
    "text.parse_math": False,  # a label may contain a dollar sign
    "axes.edgecolor": GREY,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "svg.hashsalt": "espalier",
}


def new_figure(height: float, columns: int = 1, rows: int = 1, **grid: Any) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of `height` inches, and its axes in reading order."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **grid).flat)


def render(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """Return the figure as a file: equal figures give equal bytes. A PNG has twice the width that the page shows."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format=form, dpi=190, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def finish_layout(figure: Figure) -> Figure:
    """Lay the figure out and remove text that would overlap: tick labels in steps, and later annotations."""
    FigureCanvasAgg(figure).draw()
    figure.set_layout_engine("none")  # a second layout would take longer than drawing
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _thin(axis)
        kept: list[Bbox] = []
        for text in list(axes.texts):
            box = text.get_window_extent()
            if any(box.overlaps(other) for other in kept):
                text.remove()
            else:
                kept.append(box)
    return figure


def _thin(axis: Axis) -> None:
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    ticks = [
        (tick.get_loc(), tick.label1.get_text(), tick.label1.get_window_extent().padded(2))
        for tick in sorted(axis.get_major_ticks(), key=lambda tick: tick.get_loc())
        if tick.label1.get_visible() and tick.label1.get_text() and low - slack <= tick.get_loc() <= high + slack
    ]
    step = next(
        (step for step in range(1, len(ticks)) if not _touching([box for *_, box in ticks[::step]])), len(ticks)
    )
    if step > 1:
        axis.set_ticks([place for place, *_ in ticks[::step]], labels=[text for _, text, _ in ticks[::step]])


def _touching(boxes: Sequence[Bbox]) -> bool:
    return any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def score_axis(axis: Axis, split: str = "search") -> None:
    """Label an axis of scores in [0, 1] in per cent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    axis.set_label_text(f"score on the {split} split, %")


def integer_axis(axis: Axis, label: str) -> None:
    """Label an axis of counts, with ticks at whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_label_text(label)


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Set at most five ticks: powers of ten, else 1, 2 and 5 times these, else both ends. `low` must be above 0."""
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    series = powers, [step * power for power in powers for step in (1, 2, 5)]
    within = [[tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)] for ticks in series]
    ticks = next((ticks for ticks in within if len(ticks) > 1), [low, high])
    ticks = ticks[:: -(-len(ticks) // 5)]
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(ticks, labels=[short(value) for value in ticks])


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
    """Break a name into lines of at most `room` characters, after underscores if possible."""
    lines = [""]
    for part in name.replace("_", "_\0").split("\0"):
        if lines[-1] and len(lines[-1] + part) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(truncated(line, room) for line in lines)


LEGEND_ROOM = 84  # characters in a line of a legend
LAST_IN_LEGEND = ("pruned", "diverged or failed", "best so far", "Pareto front")


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put a legend above the axes with each label once. No legend for a single label."""
    unique = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    labels = sorted(unique, key=lambda label: LAST_IN_LEGEND.index(label) if label in LAST_IN_LEGEND else -1)
    if len(labels) > 1:
        figure.legend(
            [unique[label] for label in labels],
            [truncated(label, LEGEND_ROOM - 24) for label in labels],
            loc="outside upper left",
            ncols=max(1, min(3, LEGEND_ROOM // (max(map(len, labels)) + 4))),  # 4: the handle and the space between
            fontsize=SMALL,
            handletextpad=0.4,
            columnspacing=1.2,
        )


def jitter(number: int, width: float = 0.3) -> float:
    """Return a deterministic offset for a trial's point, so that points at one place do not cover each other."""
    return width * ((number * 0.6180339887) % 1 - 0.5)


def finite(values: Sequence[Any]) -> list[float]:
    """Return the finite numbers among the values."""
    return [float(v) for v in values if isinstance(v, int | float | np.number) and math.isfinite(v)]
