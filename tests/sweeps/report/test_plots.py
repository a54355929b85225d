"""The plots of a sweep's page, as Vega-Lite: what is drawn where, and units on every axis.

What a browser makes of them is tested in `tests/e2e/test_report_page.py`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.space import Space
from sweeps.report.chart_style import short, wrapped
from sweeps.report.page import PLOTS, write_report
from sweeps.report.plots import plots
from sweeps.report.plots_importance import importance
from sweeps.report.plots_trials import round_spans
from sweeps.report.searched_axes import AxisGroup, axis_groups
from sweeps.results.run_folder import Run
from sweeps.results.trial_params import TrialParams
from tests.support.report_kit import (
    SPACE,
    confirmed,
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


def shown_in(run, name):
    """The charts of a plot, by their titles."""
    return dict(next(plot for plot in plots(run) if plot.name == name).panels)


def layers(chart):
    """The layers of a chart, each with the rows of its data."""
    known = chart["datasets"]
    return [(one, known[(one.get("data") or chart["data"])["name"]]) for one in chart["layer"]]


def channel(layer, name):
    return layer["encoding"].get(name, {})


def test_a_bar_is_as_long_as_its_round_took_with_those_of_its_neighbours():
    """In a host a round's own seconds are fewer than those that pass."""
    one = trial(3, 0.5, rounds=2)
    rows = [{"round": i, "at": 100.0 + 10 * i, "time_s": 10.0 * i, "seconds": 2.5} for i in (1, 2)]
    assert round_spans(replace(one, history=rows)) == [(100.0, 10.0), (110.0, 10.0)]


def test_plots_of_200_trials_have_units(tmp_path):
    records, space, pairs = two_learners(200)
    run = Run.read(folder(tmp_path / "sweep", records, space=space, pairs=pairs))
    drawn = {plot.name: plot for plot in plots(run)}
    assert {"curves", "history", "pareto", "timeline", "kinds", "slices", "slices-lora", "parallel-soft_prompt"} <= set(
        drawn
    )
    assert {"importance-lora", "importance-soft_prompt"} <= set(drawn)
    for name, plot in drawn.items():
        for title, chart in plot.panels:
            axes = [channel(layer, side) for layer in chart["layer"] for side in ("x", "y")]
            unnamed = [one for one in axes if one and one["type"] == "quantitative" and one.get("axis", 1)]
            assert all(one.get("title", one["field"]) or title for one in unnamed), name
    scales = {title: chart["layer"][0]["encoding"]["x"]["scale"] for title, chart in drawn["slices-lora"].panels}
    assert scales["learning_rate"]["type"] == "log"
    assert scales["weight_decay"]["type"] == "linear"
    assert scales["weight_decay"]["domain"] == [0.0, 0.1], "the whole range that was searched"


def test_the_winner_s_learner_comes_first(tmp_path):
    """Trial 1, of the second learner, is the best."""
    records, space, pairs = two_learners(12)
    records[1] = replace(trial(1, 0.99), params=replace(records[1].params, pair="soft_prompt"))
    run = Run.read(folder(tmp_path / "sweep", records, space=space, pairs=pairs))
    assert [group.pair for group in axis_groups(run)] == ["", "soft_prompt", "lora"]
    names = [plot.name for plot in plots(run) if plot.name.startswith("slices")]
    assert names == ["slices", "slices-soft_prompt", "slices-lora"]
    legend = channel(shown_in(run, "history")[""]["layer"][1], "shape")["scale"]["domain"]
    assert legend == ["soft_prompt", "lora", "pruned"]


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
    run = Run.read(folder(tmp_path / "sweep", records, space=space))
    lines = layers(shown_in(run, "parallel")[""])[1][1]
    places = [row["place"] for row in lines if row["trial"] == 1]
    assert places == pytest.approx([0.5, 0.25, 1.0])


def test_the_front_goes_through_what_is_better_or_costs_less(tmp_path):
    records = [trial(0, 0.4), trial(1, 0.6), trial(2, 0.5)]  # of 1,000, 2,000 and 3,000 parameters
    chart = shown_in(Run.read(folder(tmp_path / "sweep", records)), "pareto")[""]
    (line, front), (dots, all_) = layers(chart)[:2]
    assert (line["mark"]["type"], dots["mark"]["type"]) == ("line", "point")
    assert [(row["place"], row["score"]) for row in front] == [(1000, 40), (2000, 60)]
    assert sorted((row["trial"], row["place"], row["score"]) for row in all_) == [
        (0, 1000, 40),
        (1, 2000, 60),
        (2, 3000, 50),
    ]


def test_a_finalist_has_its_interval_and_its_seeds(tmp_path):
    run = Run.read(confirmed(tmp_path / "sweep"))
    (_, rows), (_, seeds) = layers(shown_in(run, "intervals")[""])[:2]
    bounds = run.confirmation.bounds()
    assert [row["trial"] for row in rows] == [0, 3, None]
    for row, one in zip(rows, run.finals, strict=True):
        low, high = bounds[one.name]
        assert (row["low"], row["score"], row["high"]) == pytest.approx(
            (100 * low, 100 * one.score, 100 * high), abs=0.01
        )
    best = [row["seed"] for row in seeds if row["trial"] == 0]
    assert best == pytest.approx(100 * run.finals[0].scores.mean(1), abs=0.01)


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
        rows = found[""].to_dict()["datasets"].popitem()[1]
        luck = {row["name"]: row["share"] for row in rows if row["group"] != "this sweep"}
        bars = {row["name"]: row["share"] for row in rows if row["group"] == "this sweep"}
        above = {name: bars[name] > luck[name] for name in bars}
        assert sum(bars.values()) == pytest.approx(100, abs=0.1)
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
    chart = shown_in(run, "slices")["mode"]
    dots, rows = layers(chart)[0]
    assert channel(dots, "x")["scale"]["domain"] == ["a", "b$c$d", "None"]
    assert sorted(row["value"] for row in rows) == ["None", "a", "a", "b$c$d"], "None is a choice like any other"
    assert all(picture.startswith(b"\x89PNG") for picture in made.values())


def test_names_and_numbers_are_shortened_so_that_they_can_still_be_read():
    assert wrapped("per_device_train_batch_size", 12).split("\n") == ["per_device_", "train_batch_", "size"]
    shown = [short(value) for value in (0.00031234, 20, 8192, 65536, 1.1e6, True, "linear")]
    assert shown == ["0.000312", "20", "8192", "65.5k", "1.1M", "True", "linear"]
