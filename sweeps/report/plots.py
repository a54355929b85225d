"""All figures of a sweep, each with a title and a sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure

from sweeps.report.chart_style import STYLE, finish_layout
from sweeps.report.plots_importance import importance
from sweeps.report.plots_question_kinds import kinds
from sweeps.report.plots_rl import rewards
from sweeps.report.plots_search_space import parallel, slices
from sweeps.report.plots_trials import curves, history, pareto, timeline
from sweeps.report.searched_axes import AxisGroup, axis_groups
from sweeps.results.run_folder import Run


@dataclass(frozen=True)
class Plot:
    """A figure with its title. `name` is its file name without the suffix; `caption` says how to read it."""

    name: str
    title: str
    caption: str
    figure: Figure


TRIAL_FIGURES: dict[str, tuple[Callable[[Run], Figure | None], str, str]] = {
    "kinds": (
        kinds,
        "Score by kind of question",
        "The mean score on each kind. A line is a 95 % interval; only finalists have one.",
    ),
    "curves": (
        curves,
        "Learning curves",
        "Each line is a trial. Grey lines are pruned trials, which were stopped early.",
    ),
    "rewards": (
        rewards,
        "Learning from rewards",
        "The best trials that learn from rewards, round by round. The reward is that of sampled completions, the score"
        " that of held-out questions: a reward that rises alone is won without right answers.",
    ),
    "history": (
        history,
        "Search history",
        "The best score of each trial, in order of start, and the best score so far.",
    ),
    "pareto": (
        pareto,
        "Score against cost",
        "Numbered trials are on the Pareto front: no trial scores more at the same or a lower cost.",
    ),
    "timeline": (timeline, "Timeline of the trials", "Each row is a trial, and each bar is a round."),
}
AXIS_FIGURES: dict[str, tuple[Callable[[AxisGroup], Figure | None], str, str]] = {
    "importance": (
        importance,
        "Hyperparameter importance",
        "How much each hyperparameter decides whether a trial is in the top quarter (PED-ANOVA). A bar inside the grey"
        " one may be chance.",
    ),
    "slices": (
        slices,
        "Score by hyperparameter value",
        "Each dot is a trial. The best has a ring, pruned ones are hollow. A cross is a trial that diverged or failed.",
    ),
    "parallel": (
        parallel,
        "Parallel coordinates",
        "Each line is a trial. It passes through the trial's values, down to its score.",
    ),
}


def figures(run: Run) -> list[Plot]:
    """Return the figures in the order of the page, without those that have nothing to show."""
    with rc_context(STYLE):
        return [
            Plot(name, title, caption, finish_layout(figure))
            for name, title, caption, figure in _draw_all(run)
            if figure
        ]


def _draw_all(run: Run) -> Iterator[tuple[str, str, str, Figure | None]]:
    for name, (draw, title, caption) in TRIAL_FIGURES.items():
        yield name, title, caption, draw(run)
    searched = axis_groups(run)
    for name, (draw_group, title, caption) in AXIS_FIGURES.items():
        for group in searched:
            suffix, pair = (f"-{group.pair}", f": {group.pair}") if group.pair else ("", "")
            yield name + suffix, title + pair, caption, draw_group(group)
