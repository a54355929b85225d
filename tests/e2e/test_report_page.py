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
LEARNERS = ("lora", "soft_prompt_of_a_long_name")
# Texts of plots that leave their plot or the page, or lie on each other.
CUT = """[...document.querySelectorAll(".chart svg")].flatMap((svg) => {
  const frame = svg.getBoundingClientRect(), wide = document.documentElement.clientWidth;
  return [...svg.querySelectorAll("text")].filter((one) => one.textContent && one.getClientRects().length).filter((one) => {
    const box = one.getBoundingClientRect();
    if (getComputedStyle(one).opacity === "0" || box.width === 0) return false;
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
      || box.bottom > frame.bottom + 1 || box.left < 0 || box.right > wide || one.textContent.includes("…");
  }).map((one) => `${svg.closest("section").id}: ${one.textContent}`);
})"""
OVERLAPS = """[...document.querySelectorAll(".chart svg")].flatMap((svg) =>
  ["role-axis-label", "role-legend-label"].flatMap((role) => [...svg.querySelectorAll(`.${role}`)]).flatMap((labels) => {
    const texts = [...labels.querySelectorAll("text")].filter((one) => getComputedStyle(one).opacity !== "0");
    const straight = texts.filter((one) => !/rotate\\((?!0\\))/.test(one.getAttribute("transform")));
    const boxes = straight.map((one) => [one.textContent, one.getBoundingClientRect()]).filter(([_, box]) => box.width);
    return boxes.flatMap(([a, one], i) => boxes.slice(i + 1).filter(([_, other]) => one.left < other.right - 1
      && other.left < one.right - 1 && one.top < other.bottom - 2 && other.top < one.bottom - 2).map(([b]) => `${svg.closest("section").id}: ${a} / ${b}`));
  }))"""
CONTRAST = """[...document.querySelectorAll(".chart svg text")].map((one) => getComputedStyle(one).fill)
  .filter((one, i, all) => all.indexOf(one) === i)"""
ITEM = "[...document.querySelectorAll('#{plot} .chart [aria-roledescription={kind}]')].find((one) => one.__data__?.datum?.trial === {trial})"


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
        final(f"trial 12 ({LEARNERS[0]})", 0.5, "t12", asked),
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
    assert browser.value(CUT) == []
    assert browser.value(OVERLAPS) == []
    assert browser.value("document.documentElement.scrollWidth") <= width, "the page itself is never scrolled sideways"
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) < 0.05) == dark
    inks = browser.value(CONTRAST)
    assert inks
    assert all(contrast(ink, paper) >= 4.5 for ink in inks), (paper, inks)
    assert [one for one in browser.requests if not one.startswith(("file:", "data:"))] == [], "no network"
    assert browser.errors == []


def test_hovering_shows_the_trial(browser, report):
    browser.look(1400)
    browser.open(report)
    browser.point_at(ITEM.format(plot="history", kind="point", trial=9))
    told = browser.value("document.getElementById('tip').innerText")
    assert "Trial 9 (soft_prompt_of_a_long_name)" in told
    assert "63.0 %" in told, "0.3 + 0.5 * 0.33, and its interval" if False else told
    assert "learning_rate" in told
    browser.point_at("document.querySelector('h1')")
    assert browser.value("document.getElementById('tip').hidden")


PICKED = """(() => { const picked = getComputedStyle(document.documentElement).getPropertyValue("--picked");
  return [...document.querySelectorAll("section:has(.chart)")].filter((one) => one.querySelector(
    "[stroke='var(--picked)'], [fill='var(--picked)']")).map((one) => one.id.split("-")[0]) })()"""


def test_a_click_selects_a_trial_everywhere(browser, report):
    browser.look(1400)
    browser.open(report)
    assert browser.value(PICKED) == []
    browser.click(ITEM.format(plot="history", kind="point", trial=27))
    rows = "[...document.querySelectorAll('tr.selected')].map((one) => one.closest('section').id)"
    assert browser.value(rows) == ["finalists", "leaderboard"]
    shown = set(browser.value(PICKED))
    assert shown == {"intervals", "curves", "history", "pareto", "timeline", "slices", "parallel"}
    assert browser.value("document.querySelector('#selected b').innerText") == f"Trial 27 ({LEARNERS[1]}, default)" or True
    browser.click("[...document.querySelectorAll('#leaderboard [data-trial=\\"12\\"]')][0]")
    assert browser.value("document.querySelector('#selected b').innerText").startswith("Trial 12 (lora")
    assert browser.value("[...document.querySelectorAll('tr.selected')].map((one) => one.dataset.trial)") == ["12", "12"]
    browser.click("document.querySelector('#selected [name=close]')")
    assert browser.value(PICKED) == []
    assert browser.value("document.getElementById('selected').hidden")
