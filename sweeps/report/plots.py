"""All plots of a sweep, each with a title and a sentence that says how to read it.

To add one, write a function that returns its charts by their titles, and name it in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import altair as alt

from sweeps.report.chart_style import HEIGHT, panel_spec, standalone
from sweeps.report.plots_finalists import finalists
from sweeps.report.plots_importance import importance
from sweeps.report.plots_question_kinds import kinds
from sweeps.report.plots_rl import rewards
from sweeps.report.plots_search_space import parallel, slices
from sweeps.report.plots_trials import Panels, curves, history, pareto, timeline
from sweeps.report.searched_axes import AxisGroup, axis_groups
from sweeps.results.run_folder import Run


@dataclass(frozen=True)
class Plot:
    """A plot with its title. `name` is its file name without the suffix; `caption` says how to read it.

    `panels` are its charts, each with a title, which is empty for a chart alone, as Vega-Lite without the style.
    """

    name: str
    title: str
    caption: str
    panels: tuple[tuple[str, dict[str, Any]], ...]


TRIAL_PLOTS: dict[str, tuple[Callable[[Run], Panels], str, str]] = {
    "intervals": (
        finalists,
        "Finalists with their intervals",
        "A line is a 95 % interval, a dot the mean of all seeds, and a blue tick one seed.",
    ),
    "kinds": (
        kinds,
        "Score by kind of question",
        "The mean score on each kind. A line is a 95 % interval; only finalists have one.",
    ),
    "curves": (
        curves,
        "Learning curves",
        "Each line is a trial, the thick one the best. Grey lines are pruned trials, which were stopped early.",
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
        "The best score of each trial, in order of start, and as a line the best score so far.",
    ),
    "pareto": (
        pareto,
        "Score against cost",
        "The line is the Pareto front: no trial scores more than one on it at the same or a lower cost.",
    ),
    "timeline": (timeline, "Timeline of the trials", "Each row is a trial, and each bar is a round."),
}
AXIS_PLOTS: dict[str, tuple[Callable[[AxisGroup], Panels], str, str]] = {
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
        "Each line is a trial. It passes through the trial's values, down to its score. The thick one is the best.",
    ),
}


def plots(run: Run) -> list[Plot]:
    """Return the plots in the order of the page, without those that have nothing to show."""
    return [
        Plot(name, title, caption, tuple((label, panel_spec(chart, HEIGHT)) for label, chart in panels.items()))
        for name, title, caption, panels in _draw_all(run)
        if panels
    ]


def charts(run: Run) -> dict[str, Any]:
    """Return the plots by name, each as an altair chart of its own."""
    return {plot.name: alt.Chart.from_dict(standalone(plot.panels)) for plot in plots(run)}


def _draw_all(run: Run) -> Iterator[tuple[str, str, str, Panels]]:
    for name, (draw, title, caption) in TRIAL_PLOTS.items():
        yield name, title, caption, draw(run)
    searched = axis_groups(run)
    for name, (draw_group, title, caption) in AXIS_PLOTS.items():
        for group in searched:
            suffix, pair = (f"-{group.pair}", f": {group.pair}") if group.pair else ("", "")
            yield name + suffix, title + pair, caption, draw_group(group)
