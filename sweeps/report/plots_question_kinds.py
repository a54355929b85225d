"""The figure of scores by kind of question: of the finalists, or without them, of the search's best trial."""

from __future__ import annotations

from matplotlib.figure import Figure

from sweeps.report.chart_style import GREY, HUES, INK, legend_above, new_figure, score_axis, wrapped
from sweeps.results.records import UNTOUCHED, clusters_of, is_untouched, winner
from sweeps.results.run_folder import Run
from sweeps.results.statistics import Interval
from sweeps.results.uncertainty import intervals

MAX_FINALISTS = 4  # beside the untouched base; more would be hard to tell apart
Scores = dict[str, dict[str, tuple[float, Interval | None]]]  # name -> kind -> score and interval


def kinds(run: Run) -> Figure | None:
    """Draw a row per kind of question. None if there is only one kind."""
    by_name = _finalists(run) if run.finals else _searched(run)
    names = sorted({kind for scores in by_name.values() for kind in scores})
    if len(names) < 2:
        return None
    figure, (axes,) = new_figure(1.3 + len(names) * (0.3 + 0.13 * len(by_name)))
    for i, (name, scores) in enumerate(by_name.items()):
        colour = GREY if is_untouched(name) else (INK, *HUES)[i]
        place = 0.62 * (i - (len(by_name) - 1) / 2) / max(len(by_name), 1)
        rows = [names.index(kind) + place for kind in scores]
        values = [value for value, _ in scores.values()]
        for row, (_, bounds) in zip(rows, scores.values(), strict=True):
            if bounds:
                axes.plot(bounds, (row, row), color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(values, rows, "o", color=colour, markersize=5.5, label=name)
    axes.set_yticks(range(len(names)), [wrapped(name, 18) for name in names], color=INK)
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
    """Return the scores of the first finalists and of the best one before its training, with intervals over questions
    and seeds."""
    shown = [one.name for one in run.finals if not one.is_untouched][:MAX_FINALISTS]
    before = run.confirmation.untouched_of_best
    shown += [before.name] if before else []
    by_kind: Scores = {name: {} for name in shown}
    for kind, own in run.questions.groupby("kind"):
        places = own.item.to_numpy()  # finalists may have been asked only the first of them
        scores = {one.name: one.scores[:, places[places < one.scores.shape[1]]] for one in run.finals}
        bounds = intervals(scores, clusters_of(own.key.tolist()), run.confirmation.without_seeds)
        for name in shown:
            by_kind[name][str(kind)] = (float(scores[name].mean()), bounds[name])
    return by_kind


def _searched(run: Run) -> Scores:
    """Return `score.<kind>` of the best trial's best round and of its untouched base, without intervals."""
    best = winner(run.records, run.finals)
    row = best.history.best if best else None
    if best is None or row is None:
        return {}
    found = {f"trial {best.number}, the best": row, UNTOUCHED: run.end.get("untouched", {}).get(best.pair, {})}
    by_kind: Scores = {}
    for name, metrics in found.items():
        scores = {key.removeprefix("score."): value for key, value in metrics.items() if key.startswith("score.")}
        by_kind[name] = {kind: (float(value), None) for kind, value in scores.items()}
    return {name: scores for name, scores in by_kind.items() if scores}
