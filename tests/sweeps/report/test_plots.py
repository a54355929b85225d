"""The figures of a sweep's page: units on every axis, nothing on top of anything, whatever the sweep."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.space import Space
from sweeps.report.chart_style import legend_above, new_figure, short, wrapped
from sweeps.report.page import PLOTS, write_report
from sweeps.report.plots import figures
from sweeps.report.plots_importance import importance
from sweeps.report.plots_search_space import parallel, slices
from sweeps.report.plots_trials import pareto, round_spans
from sweeps.report.searched_axes import AxisGroup, axis_groups
from sweeps.results.run_folder import Run
from sweeps.results.trial_params import TrialParams
from tests.support.report_kit import (
    SPACE,
    folder,
    pair,
    several,
    trial,
)


def two_learners(n):
    """Trials of two learners, and their joined space."""
    space = Space({"learner": CategoricalDistribution(("lora", "soft_prompt"))})
    for name in ("lora", "soft_prompt"):
        space = space | SPACE.when(learner=name)
    records = []
    for one in several(n):
        name = ("lora", "soft_prompt")[one.number % 2]
        records.append(replace(one, params=replace(one.params, pair=name)))
    return records, space, [pair("lora"), pair("soft_prompt")]


def overlaps(figure):
    """Pairs of tick labels, and texts on the axes, that touch; and labels that the figure's edge cuts."""
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    texts = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            texts += [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]
            texts += [axis.label] if axis.label.get_text() else []
        texts += axes.texts
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    cut = [
        name for name, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
    ]  # fmt: skip
    return [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)], cut


def test_a_bar_is_as_long_as_its_round_took_with_those_of_its_neighbours():
    """In a host a round's own seconds are fewer than those that pass."""
    one = trial(3, 0.5, rounds=2)
    rows = [{"round": i, "at": 100.0 + 10 * i, "time_s": 10.0 * i, "seconds": 2.5} for i in (1, 2)]
    assert round_spans(replace(one, history=rows)) == [(100.0, 10.0), (110.0, 10.0)]


def test_figures_of_200_trials_have_units_and_nothing_on_top_of_anything(tmp_path):
    records, space, pairs = two_learners(200)
    run = Run.read(folder(tmp_path / "sweep", records, space=space, pairs=pairs))
    shown = {plot.name: plot.figure for plot in figures(run)}
    assert {"curves", "history", "pareto", "timeline", "kinds", "slices", "slices-lora", "parallel-soft_prompt"} <= set(
        shown
    )
    assert {"importance-lora", "importance-soft_prompt"} <= set(shown)
    for name, figure in shown.items():
        assert overlaps(figure) == ([], []), name
        for axes in figure.axes:
            assert axes.get_xlabel(), name
            outer = axes.get_subplotspec().is_first_col()
            assert axes.get_ylabel() or not outer, name
    scales = {axes.get_xlabel(): axes.get_xscale() for axes in shown["slices-lora"].axes}
    assert scales["learning_rate"] == "log"
    assert scales["weight_decay"] == "linear"


@pytest.mark.parametrize("longest", [8, 26, 40, 80])
def test_a_legend_of_long_names_stays_inside_its_figure(longest):
    figure, (axes,) = new_figure(4.0)
    for number in range(5):
        axes.plot([0, 1], [0, number], label=f"{number}".ljust(longest, "m" if longest == 8 else "e"))
    legend_above(figure, axes)
    FigureCanvasAgg(figure).draw()
    box = figure.legends[0].get_window_extent(figure.canvas.get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_axes_of_a_learner_that_has_no_trial_yet_are_not_those_of_all(tmp_path):
    records, space, pairs = two_learners(6)
    lora = [one for one in records if one.learner == "lora"]
    found = axis_groups(Run.read(folder(tmp_path / "sweep", lora, space=space, pairs=pairs)))
    assert [(group.pair, {*group.axes}) for group in found] == [("", {"learner"}), ("lora", {*SPACE.axes})]


def test_a_value_s_place_is_that_of_its_scale(tmp_path):
    space = Space({"rate": FloatDistribution(1e-4, 1e-2, log=True), "decay": FloatDistribution(0.0, 0.1)})
    records = [
        replace(trial(n, 0.5 + n / 10), params=TrialParams("lora", {"rate": 1e-3, "decay": 0.025})) for n in range(2)
    ]
    figure = parallel(axis_groups(Run.read(folder(tmp_path / "sweep", records, space=space)))[0])
    assert figure.axes[0].lines[-1].get_xdata() == pytest.approx([0.5, 0.25, 1.0])


def test_the_front_goes_through_what_is_better_or_costs_less(tmp_path):
    records = [trial(0, 0.4), trial(1, 0.6), trial(2, 0.5)]  # of 1,000, 2,000 and 3,000 parameters
    axes = pareto(Run.read(folder(tmp_path / "sweep", records))).axes[0]
    assert {text.get_text() for text in axes.texts} == {"0", "1"}
    (front,) = [line for line in axes.lines if line.get_label() == "Pareto front"]
    assert front.get_xydata().tolist() == [[1000, 0.4], [2000, 0.6]]


def test_a_lesser_axis_is_not_called_luck_beside_a_great_one():
    """Scores are A, less than half of B, and noise, of five axes, by hand; five sweeps of 100 trials each."""
    real, nothing = 0, 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        placed = rng.random((100, 5))
        scores = (placed[:, 0] + 0.45 * placed[:, 1] + rng.normal(0, 0.05, 100)) / 2
        trials = [trial(i, float(score)) for i, score in enumerate(scores)]
        values = {f"t{i}": dict(zip("ABCDE", row.tolist(), strict=True)) for i, row in enumerate(placed)}
        found = importance(AxisGroup("", dict.fromkeys("ABCDE", FloatDistribution(0.0, 1.0)), trials, [], values))
        luck, bars = found.axes[0].containers
        names = [label.get_text() for label in found.axes[0].get_yticklabels()]
        above = {name: bar.get_width() > by.get_width() for name, bar, by in zip(names, bars, luck, strict=True)}
        assert sum(bar.get_width() for bar in bars) == pytest.approx(1)
        assert above["A"]
        real += above["B"]
        nothing += above["C"] + above["D"] + above["E"]
    assert real >= 4
    assert nothing <= 3, "of 15; in 1 of 20 luck is above its own bar"


def test_axes_without_numbers_are_drawn(tmp_path):
    modes = ("a", "b$c$d", None)
    space = Space({"mode": CategoricalDistribution(modes), "flag": CategoricalDistribution((False, True))})
    records = [
        replace(one, params=TrialParams("lora", {"mode": modes[one.number % 3], "flag": one.number > 1}))
        for one in several(4)
    ]
    run = Run.read(folder(tmp_path / "sweep", records, space=space))
    page = write_report(run.folder)
    made = {path.stem: path.read_bytes() for path in page.with_name(PLOTS).iterdir()}
    assert {"slices", "parallel", "history"} <= set(made)
    pane = slices(axis_groups(run)[0]).axes[0]
    drawn_at = np.concatenate([dots.get_offsets()[:, 0] for dots in pane.collections])
    assert sorted(np.rint(drawn_at).tolist()) == [0, 0, 1, 2], "None is a choice like any other"
    assert all(picture.startswith(b"\x89PNG") for picture in made.values())


def test_names_and_numbers_are_shortened_so_that_they_can_still_be_read():
    assert wrapped("per_device_train_batch_size", 12).split("\n") == ["per_device_", "train_batch_", "size"]
    shown = [short(value) for value in (0.00031234, 20, 8192, 65536, 1.1e6, True, "linear")]
    assert shown == ["0.000312", "20", "8192", "65.5k", "1.1M", "True", "linear"]
