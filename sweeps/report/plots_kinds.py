"""The figure of the kinds of question: which of them the finalists answer, or until then, the search's best trial."""

from __future__ import annotations

from matplotlib.figure import Figure

from sweeps.report.chart_style import GREY, HUES, INK, folded, legend_above, score_axis, sheet
from sweeps.results.records import UNTOUCHED, clusters_of, winner
from sweeps.results.run_folder import Run
from sweeps.results.statistics import Interval
from sweeps.results.uncertainty import intervals

SHOWN = 4  # finalists beside the untouched base: more cannot be told apart by eye
Scores = dict[str, dict[str, tuple[float, Interval | None]]]  # who -> kind -> score and interval


def kinds(run: Run) -> Figure | None:
    """A row per kind; nothing where questions are of one kind."""
    by_name = _finalists(run) if run.finals else _searched(run)
    names = sorted({kind for scores in by_name.values() for kind in scores})
    if len(names) < 2:
        return None
    figure, (axes,) = sheet(1.3 + len(names) * (0.3 + 0.13 * len(by_name)))
    for i, (who, scores) in enumerate(by_name.items()):
        colour = GREY if who == UNTOUCHED else (INK, *HUES)[i]
        place = 0.62 * (i - (len(by_name) - 1) / 2) / max(len(by_name), 1)
        rows = [names.index(kind) + place for kind in scores]
        values = [value for value, _ in scores.values()]
        for row, (_, bounds) in zip(rows, scores.values(), strict=True):
            if bounds:
                axes.plot(bounds, (row, row), color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(values, rows, "o", color=colour, markersize=5.5, label=who)
    axes.set_yticks(range(len(names)), [folded(name, 18) for name in names], color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="y", visible=False)
    for edge in range(1, len(names)):
        axes.axhline(edge - 0.5, color=GREY, linewidth=0.5)
    axes.set_ylabel("kind of question")
    score_axis(axes.xaxis, "test" if run.finals else "search")
    legend_above(figure, axes)
    return figure


def _finalists(run: Run) -> Scores:
    """Of the first few and the untouched base, with intervals of other questions of the kind and other seeds."""
    shown = [one.name for one in run.finals if one.name != UNTOUCHED][:SHOWN]
    shown += [one.name for one in run.finals if one.name == UNTOUCHED]
    parted: Scores = {name: {} for name in shown}
    for kind, own in run.questions.groupby("kind"):
        scores = {one.name: one.scores[:, own.item.to_numpy()] for one in run.finals}
        bounds = intervals(scores, clusters_of(own.key.tolist()), [UNTOUCHED])
        for name in shown:
            parted[name][str(kind)] = (float(scores[name].mean()), bounds[name])
    return parted


def _searched(run: Run) -> Scores:
    """`score.<kind>` of the best trial's best round, and of its base before training; without intervals."""
    best = winner(run.records, run.finals)
    row = best.history.best if best else None
    if best is None or row is None:
        return {}
    found = {f"trial {best.number}, the best": row, UNTOUCHED: run.end.get("untouched", {}).get(best.learner, {})}
    parted: Scores = {}
    for who, metrics in found.items():
        of_kinds = {name.removeprefix("score."): value for name, value in metrics.items() if name.startswith("score.")}
        parted[who] = {kind: (float(value), None) for kind, value in of_kinds.items()}
    return {who: scores for who, scores in parted.items() if scores}
