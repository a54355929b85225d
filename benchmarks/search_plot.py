"""The figure of `search.py`: how far each method's pick is from the reference, by cost."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.replay import GRID

INK, SOFT, GREY, PALE = "#22282e", "#5c656e", "#a9b0b7", "#e4e7ea"
HUES = ("#1f6f54", "#4467a8", "#b9791f", "#83508c", "#a34a3f", "#3f8fa3")  # colours of methods
SMALL = 10  # points
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
}
PANEL = 2.5  # inches: the side of a panel
COLUMNS = 3
LOWEST, HIGHEST = -12, 4  # points


def draw(results: Sequence[Any], methods: Sequence[str], reference: str, file: Path) -> None:
    """Write a PNG with a panel for the mean of the tasks that count, and one for each task.

    `results` are `TaskResult`s of `search.py`. Below what is shown, lines leave the panel.
    """
    shown = [method for method in methods if not method.startswith("random ") or method == reference]
    panels = [("mean of the tasks that count", [one for one in results if one.counts])]
    panels += [(f"{number}: {one.name}", [one]) for number, one in enumerate(results, 1)]
    panels = [(title, own) for title, own in panels if own]
    rows = math.ceil(len(panels) / COLUMNS)
    with rc_context(STYLE):
        figure = Figure(figsize=(COLUMNS * PANEL * 1.15, rows * PANEL + 0.8), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, (title, own) in zip(grid.flat, panels, strict=False):
            _panel(axes, title, own, shown)
        figure.supxlabel(f"cost, in {reference}", fontsize=SMALL)
        figure.supylabel("points above what it picks", fontsize=SMALL)
        handles, names = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=COLUMNS, fontsize=SMALL)
        figure.savefig(buffer := io.BytesIO(), format="png", dpi=190)
    file.write_bytes(buffer.getvalue())


def _panel(axes: Axes, title: str, results: Sequence[Any], methods: Sequence[str]) -> None:
    axes.axhline(0, color=GREY, linewidth=1)
    for place, method in enumerate(methods):
        apart = np.mean([100 * (one.outcomes[method].searched - one.reference.last) for one in results], axis=0)
        style = {"color": INK} if place == 0 else {"color": HUES[(place - 1) % len(HUES)]}
        dashes = "-" if place <= len(HUES) else "--"
        axes.plot(GRID, apart, label=method, linewidth=1.4, linestyle=dashes, **style)
    axes.set_title(title[:34], fontsize=SMALL)
    axes.set_ylim(LOWEST, HIGHEST)
    axes.set_xlim(0, 1)
