"""A sweep's page in Chromium: nothing is cut, wide and narrow, light and dark; hovering, and selecting everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution

from search_spaces.space import Space
from sweeps.results.records import UNTOUCHED
from tests.support.chromium import browsing
from tests.support.mlflow_pages import needs_chromium
from tests.support.report_kit import SPACE, final, folder, page, pair, questions, trial

pytestmark = needs_chromium
LEARNERS = ("lora", "soft_prompt@SmolLM2-135M-Instruct-of-a-long-name")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The file of a sweep of 70 trials of two learners, one of which diverged, with finalists."""
    space, records = Space({"learner": CategoricalDistribution(LEARNERS)}), []
    for name in LEARNERS:
        space = space | SPACE.when(learner=name)
    for number in range(70):
        ended = ("finished", "pruned", "pruned")[number % 3]
        one = trial(number, 0.3 + 0.5 * ((number * 37) % 100) / 100, ended, 2 if number % 3 else 4)
        records.append(replace(one, params=replace(one.params, pair=LEARNERS[number % 2])))
    records[5] = replace(records[5], status="diverged")
    asked = questions()
    finals = [
        final(f"trial 27 ({LEARNERS[1]}, default)", 0.9, "t27", asked),
        final(f"trial 24 ({LEARNERS[0]})", 0.5, "t24", asked),
        final(UNTOUCHED, 0.1, None, asked, None, seeds=1),
    ]
    path = folder(
        tmp_path_factory.mktemp("page") / "sweep", records, space=space, pairs=[pair(name) for name in LEARNERS],
        finals=finals, asked=asked,
    )  # fmt: skip
    page(path)
    return (path / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("browser")) as shown:
        yield shown


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    parts = [int(one) / 255 for one in colour.strip("rgb()").split(",")[:3]]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1400, 760, 400, 360])
def test_no_label_is_cut_or_on_another_and_all_can_be_read(browser, report, width, dark):
    browser.look(width, dark=dark)
    browser.requests.clear()
    browser.open(report)
    plots = browser.value("[...document.querySelectorAll('section:has(.chart)')].map((one) => one.id)")
    assert {"intervals", "kinds", "curves", "history", "pareto", "timeline"} <= set(plots)
    for name in ("slices", "parallel", "importance"):
        own = [one for one in plots if one.startswith(f"{name}-")]
        assert own == [f"{name}-{LEARNERS[1]}", f"{name}-{LEARNERS[0]}"], "the winner's learner first"
    assert browser.value("cut()") == []
    assert browser.value("overlaps()") == []
    assert browser.value("document.documentElement.scrollWidth") <= width, "the page itself is never scrolled sideways"
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) < 0.05) == dark
    inks = browser.value("inks()")
    assert inks
    assert all(contrast(ink, paper) >= 4.5 for ink in inks), (paper, inks)
    assert [one for one in browser.requests if not one.startswith(("file:", "data:"))] == [], "no network"
    assert browser.errors == []


def test_hovering_shows_the_trial(browser, report):
    browser.look(1400)
    browser.open(report)
    for plot in ("history", "pareto", "slices"):
        browser.point_at(f"dot('{plot}', 9)")
        told = browser.value("document.getElementById('tip').innerText")
        assert "Trial 9 (soft_prompt@SmolLM2-135M-Instruct-of-a-long-name)" in told
        assert "46.5 % (36.6-55.7)" in told, "0.3 + 0.5 * 0.33, and Wilson's interval of 46 of 100"
        assert "learning_rate" in told
    browser.point_at("document.querySelector('h1')")
    assert browser.value("document.getElementById('tip').hidden")


def test_a_click_selects_a_trial_everywhere(browser, report):
    browser.look(1400)
    browser.open(report)
    assert browser.value("picked()") == browser.value("pickedRows()") == []
    browser.click("dot('history', 27)")
    assert browser.value("pickedRows()") == [["finalists", "27"], ["leaderboard", "27"]]
    assert browser.value("panelTitle()") == f"Trial 27 ({LEARNERS[1]})"
    everywhere = {"intervals", "curves", "history", "pareto", "timeline", "slices"}
    own = {f"{name}-{LEARNERS[1]}" for name in ("slices", "parallel")}
    assert set(browser.value("picked()")) == everywhere | own
    browser.click("row(24)")
    assert browser.value("panelTitle()") == "Trial 24 (lora)"
    assert browser.value("pickedRows()") == [["finalists", "24"], ["leaderboard", "24"]]
    assert set(browser.value("picked()")) == everywhere | {"slices-lora", "parallel-lora"}
    browser.click("document.querySelector('#selected [name=close]')")
    assert browser.value("panelTitle()") == ""
    assert browser.value("picked()") == browser.value("pickedRows()") == []
