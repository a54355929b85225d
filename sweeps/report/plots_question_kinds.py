"""The chart of scores by kind of question: of the finalists, or without them, of the search's best trial."""

from __future__ import annotations

from typing import Any

import altair as alt

from sweeps.report.chart_style import GREY, HUES, INK, colours, in_percent, rows, rows_axis, rows_height
from sweeps.report.plots_trials import Panels
from sweeps.results.records import UNTOUCHED, clusters_of, is_untouched, winner
from sweeps.results.run_folder import Run
from sweeps.results.statistics import Interval
from sweeps.results.uncertainty import intervals

MAX_FINALISTS = 4  # beside the untouched base; more would be hard to tell apart
Scores = dict[str, dict[str, tuple[float, Interval | None]]]  # name -> kind -> score and interval


def kinds(run: Run) -> Panels:
    """Draw a row per kind of question. Nothing if there is only one kind."""
    found = _finalists(run) if run.finals else _searched(run)
    by_name = {name.partition(" (")[0]: scores for name, scores in found.items()}
    names = sorted({kind for scores in by_name.values() for kind in scores})
    if len(names) < 2:
        return {}
    numbers = {one.trial_id: one.number for one in run.records}
    trials = {one.name.partition(" (")[0]: numbers.get(one.trial_id or "") for one in run.finals}
    values: list[dict[str, Any]] = [
        {"name": kind, "group": name, "score": in_percent(score), "trial": trials.get(name)}
        | ({"low": in_percent(bounds[0]), "high": in_percent(bounds[1])} if bounds else {})
        for name, scores in by_name.items()
        for kind, (score, bounds) in scores.items()
    ]
    entries = [(name, GREY if is_untouched(name) else (INK, *HUES)[i], "circle") for i, name in enumerate(by_name)]
    title = f"score on the {'test' if run.finals else 'search'} split, %"
    own = alt.YOffset("group:N", sort=list(by_name))
    shown = ["name:N", "group:N", alt.Tooltip("score:Q", title="score, %")]
    base = alt.Chart().encode(rows_axis(names, paddingInner=0.35), own, colours(entries))
    scale = alt.Scale(domain=[0, 100], nice=False)
    lines = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.8)
    lines = lines.encode(alt.X("low:Q", title=title, scale=scale), alt.X2("high:Q"))
    dots = base.mark_point(size=60, filled=True, opacity=1).encode(
        alt.X("score:Q", title=title, scale=scale), tooltip=shown
    )
    height = rows_height(names, 26 + 12 * len(by_name))
    return {"": alt.layer(lines, dots, data=rows(values)).properties(height=height)}


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
