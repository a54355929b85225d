"""Figures of the trials: learning curves, search history, timeline, and score against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sweeps.report.chart_style import (
    GREY,
    HUES,
    INK,
    LOST,
    MARKS,
    SMALL,
    finite,
    integer_axis,
    legend_above,
    log_ticks,
    new_figure,
    score_axis,
    short,
)
from sweeps.results.pareto import costs, front
from sweeps.results.records import UNRANKED, TrialRecord, by_score, winner
from sweeps.results.run_folder import Run

Styles = Mapping[str, tuple[str, str]]  # pair -> colour, marker


def pair_styles(records: Sequence[TrialRecord]) -> Styles:
    """Return a colour and a marker for each pair, in order of first appearance."""
    pairs = list(dict.fromkeys(one.pair for one in records))
    return {name: (HUES[i % len(HUES)], MARKS[i % len(MARKS)]) for i, name in enumerate(pairs)}


def curves(run: Run) -> Figure | None:
    """Draw the score after each round, a line per trial. None if no trial has two rounds."""
    lines = {one.trial_id: _score_per_round(one) for one in run.records}
    if max(map(len, lines.values()), default=0) < 2:
        return None
    figure, (axes,) = new_figure(4.6)
    styles, best, many = pair_styles(run.records), winner(run.records, run.finals), len(run.records) > 60
    for one in sorted(run.records, key=lambda one: (one is best, one.status != "pruned")):
        if not lines[one.trial_id]:
            continue
        rounds, scores = zip(*lines[one.trial_id], strict=True)
        colour, wide = styles[one.pair][0], 0.8 if many else 1.3
        if one is best:
            axes.plot(
                rounds,
                scores,
                color=INK,
                linewidth=2.6,
                marker="o",
                markersize=5,
                label=f"trial {one.number}, the best",
            )
        elif one.status == "pruned":
            axes.plot(rounds, scores, color=GREY, linewidth=wide, alpha=0.5 if many else 0.9, label="pruned")
            axes.plot(rounds[-1:], scores[-1:], color=GREY, marker="o", markersize=3)
        else:
            axes.plot(rounds, scores, color=colour, linewidth=wide, alpha=0.6 if many else 0.9, label=one.pair)
            if one.status in UNRANKED:
                axes.plot(rounds[-1:], scores[-1:], color=colour, marker="x")
    integer_axis(axes.xaxis, "round")
    score_axis(axes.yaxis)
    legend_above(figure, axes)
    return figure


def _score_per_round(record: TrialRecord) -> list[tuple[int, float]]:
    """Return round and score of each round that has a score."""
    rows = [row for row in record.history if not row.get("diverged")]
    return [(row["round"], row["score"]) for row in rows if finite([row.get("score")])]


def history(run: Run) -> Figure | None:
    """Draw the score by trial number, and the best so far. None for a single trial."""
    shown = [one for one in run.records if one.score is not None and math.isfinite(one.score)]
    if len(shown) < 2:
        return None
    figure, (axes,) = new_figure(4.6)
    _scatter(axes, shown, [one.number for one in shown], pair_styles(run.records))
    usable = [one for one in shown if one.status not in UNRANKED]
    if usable:
        best = np.maximum.accumulate([one.score or 0.0 for one in usable])
        axes.step([one.number for one in usable], best, where="post", color=INK, linewidth=1.4, label="best so far")
    integer_axis(axes.xaxis, "trial number, in order of start")
    score_axis(axes.yaxis)
    legend_above(figure, axes)
    return figure


def _scatter(axes: Axes, records: Sequence[TrialRecord], places: Sequence[float], styles: Styles) -> None:
    """Draw a marker per trial: filled if it finished, hollow grey if it was pruned, a cross if it failed."""
    size = 22 if len(records) > 60 else 42
    alike: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for one, place in zip(records, places, strict=True):
        kind = "lost" if one.status in UNRANKED else "pruned" if one.status == "pruned" else "kept"
        alike.setdefault((kind, one.pair), []).append((place, one.score or 0.0))
    for (kind, pair), points in alike.items():
        (colour, mark), (x, y) = styles[pair], zip(*points, strict=True)
        if kind == "lost":
            axes.scatter(x, y, s=size, color=LOST, marker="x", label="diverged or failed", zorder=3)
        elif kind == "pruned":
            axes.scatter(x, y, s=size * 0.7, facecolor="white", edgecolor=GREY, marker=mark, label="pruned")
        else:
            axes.scatter(x, y, s=size, color=colour, marker=mark, linewidth=0, label=pair, zorder=3)


def timeline(run: Run) -> Figure | None:
    """Draw when each trial ran, a bar per round. None for a single trial, or without recorded times."""
    bars = {one.number: round_spans(one) for one in run.records}
    bars = {number: spans for number, spans in bars.items() if spans}
    if len(bars) < 2:
        return None
    zero = min(start for spans in bars.values() for start, _ in spans)
    length = max(start + wide for spans in bars.values() for start, wide in spans) - zero
    unit, name = (60.0, "minutes") if length > 180 else (1.0, "seconds")
    figure, (axes,) = new_figure(min(6.5, 2.2 + 0.13 * len(run.records)))
    styles, best = pair_styles(run.records), winner(run.records, run.finals)
    for one in run.records:
        if spans := bars.get(one.number):
            colour = INK if one is best else GREY if one.status == "pruned" else styles[one.pair][0]
            label = f"trial {one.number}, the best" if one is best else "pruned" if one.status == "pruned" else one.pair
            places = [((start - zero) / unit, wide / unit) for start, wide in spans]
            edge = {"edgecolor": "white", "linewidth": 0.6} if len(bars) <= 60 else {"linewidth": 0}
            axes.broken_barh(places, (one.number - 0.4, 0.8), facecolor=colour, label=label, **edge)
    axes.set_ylim(max(bars) + 0.8, min(bars) - 0.8)
    axes.set_xlabel(f"{name} since the start of the first trial")
    integer_axis(axes.yaxis, "trial")
    legend_above(figure, axes)
    return figure


def round_spans(record: TrialRecord) -> list[tuple[float, float]]:
    """Return start (Unix time) and duration of each round, in seconds of wall time, not of the trial's own work."""
    passed = [0.0, *(row.get("time_s", 0.0) for row in record.history)]
    spans = zip(record.history, passed[1:], passed, strict=False)
    timed = [finite([row.get("at"), after - before]) for row, after, before in spans]
    return [(both[0] - both[1], both[1]) for both in timed if len(both) == 2 and both[1] > 0]


COSTS = {"trainable_parameters": "trainable parameters", "seconds": "seconds up to the best round"}


def pareto(run: Run) -> Figure | None:
    """Draw the score against each cost, with the Pareto front. None if all trials cost the same."""
    costing = {
        (key, label): {
            one.trial_id: cost for one in by_score(run.records) if 0 < (cost := costs(one, [key])[0]) < math.inf
        }
        for key, label in COSTS.items()
    }
    costing = {one: by_id for one, by_id in costing.items() if len({round(v, 3) for v in by_id.values()}) > 1}
    if not costing:
        return None
    figure, panes = new_figure(4.2, columns=len(costing), sharey=True)
    for axes, ((key, label), by_id) in zip(panes, costing.items(), strict=True):
        trials = sorted(
            (one for one in by_score(run.records) if one.trial_id in by_id), key=lambda o: by_id[o.trial_id]
        )
        places = [by_id[one.trial_id] for one in trials]
        _scatter(axes, trials, places, pair_styles(run.records))
        best = sorted(front(trials, ["score", key]), key=lambda one: by_id[one.trial_id])
        spots = [(by_id[one.trial_id], one.score or 0.0) for one in best]
        axes.step(*zip(*spots, strict=True), where="post", color=INK, linewidth=1.2, label="Pareto front")
        for one, spot in list(zip(best, spots, strict=True))[
            ::-1
        ]:  # the best first: a later label that overlaps is removed
            axes.annotate(f"{one.number}", spot, (0, 7), textcoords="offset points", ha="center", fontsize=SMALL)
        axes.margins(x=0.08, y=0.12)
        if max(places) > 8 * min(places):
            axes.set_xscale("log")
            log_ticks(axes.xaxis, *axes.get_xlim())
        else:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(float(value))))
        axes.set_xlabel(label)
        score_axis(axes.yaxis)
        axes.label_outer()
    legend_above(figure, panes[0])
    return figure
