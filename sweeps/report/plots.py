"""All figures of a sweep, each with a title and one sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure

from sweeps.report.chart_style import STYLE, settle
from sweeps.report.plots_importance import importance
from sweeps.report.plots_kinds import kinds
from sweeps.report.plots_space import parallel, slices
from sweeps.report.plots_trials import curves, history, pareto, timeline
from sweeps.report.searched_axes import AxisGroup, groups
from sweeps.results.run_folder import Run


@dataclass(frozen=True)
class Plot:
    """`name` is the file's, without its ending; `reading` says how to read the figure."""

    name: str
    title: str
    reading: str
    figure: Figure


OF_TRIALS: dict[str, tuple[Callable[[Run], Figure | None], str, str]] = {
    "kinds": (kinds, "By kind of question", "Mean score of each kind, with its 95 % interval where it is known."),
    "curves": (
        curves,
        "Learning curves",
        "A line per trial. Grey ones were pruned, that is, stopped early.",
    ),
    "history": (history, "The search over time", "Each trial's best score, and the best until then."),
    "pareto": (pareto, "What a score costs", "Numbers are trials on the front: none does better for less."),
    "timeline": (timeline, "Which trial ran when", "A row per trial, a bar per round."),
}
OF_SPACE: dict[str, tuple[Callable[[AxisGroup], Figure | None], str, str]] = {
    "importance": (
        importance,
        "Which axes matter",
        "What decides about the top quarter (PED-ANOVA; pruned trials with their best). A bar inside the grey is luck.",
    ),
    "slices": (
        slices,
        "Score by value",
        "A dot per trial: the best ringed, pruned ones hollow, a cross for lost ones.",
    ),
    "parallel": (parallel, "Values together", "A line per trial through its values, down to its score."),
}


def figures(run: Run) -> list[Plot]:
    """In the order of the page; what has nothing to show is left out."""
    with rc_context(STYLE):
        return [Plot(name, title, reading, settle(figure)) for name, title, reading, figure in _drawn(run) if figure]


def _drawn(run: Run) -> Iterator[tuple[str, str, str, Figure | None]]:
    for name, (draw, title, reading) in OF_TRIALS.items():
        yield name, title, reading, draw(run)
    searched = groups(run)
    for name, (draw_group, title, reading) in OF_SPACE.items():
        for group in searched:
            suffix, of = (f"-{group.learner}", f": {group.learner}") if group.learner else ("", "")
            yield name + suffix, title + of, reading, draw_group(group)
