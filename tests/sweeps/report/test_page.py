"""The page of a sweep: all that was found is on it, nothing that was not, and it reads without a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
import yaml

from search_spaces.space import Space
from sweeps.report.arc_grids import PALETTE, drawn
from sweeps.report.headline import headline
from sweeps.report.page import write_report
from sweeps.report.tables import learner_comparison
from sweeps.results.finals import verdict
from sweeps.results.gain import gain
from sweeps.results.leaderboard import percent, write_all
from sweeps.results.records import UNTOUCHED, Final
from sweeps.results.run_folder import Run
from sweeps.results.tables import BESIDE, FINALISTS
from sweeps.tuning.summary import gain_lines
from tests.support.report_kit import (
    confirmed,
    final,
    folder,
    page,
    pair,
    questions,
    section,
    sections,
    several,
    trial,
)
from trainables.bad_input import BadInput
from trainables.core import Example


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep with all that a sweep can leave: its folder and its page."""
    path = confirmed(tmp_path_factory.mktemp("whole") / "sweep", guards=["guard overlap (allowed): two splits overlap"])
    return path, page(path)


def test_every_trial_and_every_verdict_is_on_the_page(whole):
    path, text = whole
    run = Run.read(path)
    rows = re.findall(r"(?s)<tr.*?</tr>", section(text, "leaderboard"))
    found = {(int(cells[1]), cells[2]) for cells in (re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows) if cells}
    assert found == {(one.number, percent(one.score)) for one in run.records}
    assert section(text, "leaderboard").split("<details>")[0].count("<tr") == 21, "20 trials and the head are unfolded"
    for line in verdict(run.confirmation):
        assert line[1:] in html.unescape(text)
    assert "guard overlap (allowed): two splits overlap." in section(text, "guards").lower().replace(
        "guard o", "guard o"
    )
    assert "sweeps/arena.py --name &#39;a b&#39;" in section(text, "made")
    assert "c0ffee" in section(text, "made")
    assert "27dcf8500180" in section(text, "made")
    assert "Trial 0 has the best test score" in text
    assert "better than every other finalist (than " in text
    assert "; the untouched base scores" in text
    assert "not finished" not in text
    kept = {file.stem for file in (path / "plots").glob("*.png")}
    assert {"intervals", "curves", "history", "kinds", "importance", "slices", "parallel"} <= kept
    assert kept <= set(sections(text))


def test_nothing_on_the_page_is_code_or_comes_from_elsewhere(tmp_path):
    attack = "<script>alert(1)</script><img src=http://evil.example/x>"
    learner = "<b>lora</b>"
    records = [replace(one, params=replace(one.params, pair=learner), notes=("<i>note</i>",)) for one in several(4)]
    path = confirmed(tmp_path / "sweep", attack, 4, space=Space({}), pairs=[pair(learner)], guards=["<u>guard</u>"])
    write_all(path, records, baselines={}, rounds=4)
    text = page(path)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in section(text, "wrong")
    assert "&lt;u&gt;guard" in section(text, "guards")
    assert "&lt;i&gt;note" in section(text, "guards")
    scripts = re.findall(r"(?s)<script([^>]*)>(.*?)</script>", text)
    code = [script for kind, script in scripts if not kind]
    assert len(code) == 2
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', text)
    rules = dict(rule.split(" ", 1) for rule in html.unescape(policy).split("; "))
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in code]
    assert rules["script-src"] == " ".join(f"'sha256-{one}'" for one in hashes), "no other script may run"
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    data = [script for kind, script in scripts if kind]
    assert all(
        set(kind.split()) <= {'type="application/json"', 'id="style"', 'id="trials"'} for kind, _ in scripts if kind
    )
    assert all(json.loads(one) is not None and "<" not in one for one in data)
    bare = re.sub(r"(?s)<script.*?</script>", "", text)
    assert not re.findall(r"<(script|b>lora|i>note|u>)", bare)
    assert not re.findall(r"(?:src|href|srcset|action)\s*=\s*", re.sub(r"&lt;.*?&gt;", "", bare))
    assert not re.search(r"@import|url\(|<link|<iframe", bare)


def test_the_page_says_how_optuna_s_dashboard_opens_the_search(tmp_path):
    path = folder(tmp_path / "a sweep", several(4))
    assert "optuna-dashboard" not in page(path), "a folder without the study"
    (path / "optuna.db").touch()
    command = shlex.join(["optuna-dashboard", f"sqlite:///{path}/optuna.db"])
    assert html.escape(command, quote=False).replace("'", "&#39;") in section(page(path), "made")


def test_a_sweep_under_way_says_so(tmp_path):
    records = [trial(0, 0.5), trial(1, 0.3, "running", 2)]
    text = page(folder(tmp_path / "sweep", records, end=False, space=Space({})))
    assert "This sweep has not finished: 1 of 24 trials have ended." in text
    assert {"finalists", "wrong", "right"}.isdisjoint(sections(text))
    assert "Trial 0 has the best search score, 50.0 % (95 % interval" in text


def test_panels_without_data_are_left_out(tmp_path):
    one = page(folder(tmp_path / "one", [trial(0, 0.5)]))
    assert {"leaderboard", "curves", "comparison"} <= set(sections(one))
    assert {"history", "timeline", "pareto", "importance", "parallel", "wrong", "right"}.isdisjoint(sections(one))
    lost = [trial(0, 0.0, "diverged", 1), trial(1, 0.0, "failed", 0)]
    none = page(folder(tmp_path / "none", lost))
    assert "There is no winner: all 2 trials diverged or failed." in none
    assert {"curves", "pareto", "slices", "parallel", "importance"}.isdisjoint(sections(none))
    begun = page(folder(tmp_path / "begun", [], end=False))
    assert "No trial has a score yet." in begun
    assert sections(begun) == ["guards", "made"]
    assert "Nothing was found." in section(begun, "guards")
    with pytest.raises(BadInput, match="is not a sweep's folder"):
        write_report(tmp_path)


def test_examples_show_failures_first_of_every_kind_with_what_the_base_said(whole):
    _, text = whole
    assert text.index('id="wrong"') < text.index('id="right"')
    wrong = section(text, "wrong")
    assert 1 <= wrong.count("<article") <= 6
    assert "no idea" in wrong
    assert "I think not" in section(text, "right")
    assert {re.sub("&.*?;", "", kind) for kind in re.findall(r'class="kind">(\w+),', section(text, "right"))} >= {
        "causal",
        "math",
    }


def test_partial_credit_has_its_best_and_its_worst_answers(tmp_path):
    asked = questions(12)
    scores = np.tile(np.linspace(0.05, 0.6, 12), (2, 1))
    said = tuple(tuple(f"answer {i}" for i in range(12)) for _ in range(2))
    finals = [Final("trial 0", 0.6, scores, "t0", 4, said)]
    path = folder(tmp_path / "s", several(4), finals=finals, asked=asked, space=Space({}))
    text = page(path)
    assert "answer 11" in section(text, "right")
    assert "answer 11" not in section(text, "wrong")
    assert "answer 0" in section(text, "wrong")
    assert "Trial 0 has the best test score, 32.5 %." in text


def grid_cells(picture):
    """The picture's cells back as colours, from the rectangles of its paths."""
    grid = np.full((picture.height, picture.width), -1)
    for colour, path in picture.cells:
        for x, y, wide in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path):
            grid[int(y), int(x) : int(x) + int(wide)] = PALETTE.index(colour)
    return grid.tolist()


def test_arc_grids_become_cells_of_their_colours(tmp_path):
    prompt = "Input 1:\n01\n23\n\nOutput 1:\n44\n56\n\nTest input 1:\n789\n000\n\n\nTest outputs:\n"
    given = '[{"attempt_1": [[1, 1, 2], [3, 3, 4]], "attempt_2": []}]'
    found = drawn(prompt, "112\n333", given)
    assert [[grid_cells(one) for one in both] for both in found.demonstrations] == [
        [[[0, 1], [2, 3]], [[4, 4], [5, 6]]]
    ]
    ((source, target, first, second),) = found.tests
    assert grid_cells(source) == [[7, 8, 9], [0, 0, 0]]
    assert grid_cells(target) == [[1, 1, 2], [3, 3, 3]]
    assert grid_cells(first) == [[1, 1, 2], [3, 3, 4]]
    assert first.wrong.startswith("M2.3 1.3"), "the cell that is not as expected is crossed out"
    assert first.wrong.count("M") == 2
    assert second.caption == "attempt 2: no answer"
    asked = [Example(prompt, "112\n333", "same_size", "task")]
    path = folder(
        tmp_path / "own", [trial(0, 0.5)], pairs=[pair(base="none")], asked=asked,
        finals=[Final("trial 0", 0.5, np.zeros((1, 1)), "t0", 4, ((given,),))],
    )  # fmt: skip
    wrong = section(page(path), "wrong")
    assert '<path fill="#0074d9" d="M0 0h2v1h-2z"/>' in wrong
    assert wrong.count("<svg") == 5
    assert "attempt_1" not in wrong
    assert drawn("Which is larger, 2 or 3?", "3", "3") is None


BEFORE = "untrained ensemble (programs and lenses alone)"


def test_grids_that_training_solved_and_that_it_missed_are_on_the_first_screen(tmp_path):
    """Of five tasks programs alone solve the first, training two more; these are shown first, beside the finalists."""
    prompt = "Input 1:\n1\n\nOutput 1:\n{}\n\nTest input 1:\n1\n\n\nTest outputs:\n"
    asked = [Example(prompt.format(i), str(i), "same_size", f"task {i}") for i in range(5)]
    right = [f'[{{"attempt_1": [[{i}]], "attempt_2": [[{i}]]}}]' for i in range(5)]
    wrong = '[{"attempt_1": [[9]], "attempt_2": [[8]]}]'
    scores = np.array([[1.0, 1, 1, 0, 0]])
    best = Final("trial 0", 0.5, scores, "t0", 4, ((*right[:3], wrong, wrong),), before=BEFORE)
    before = Final(
        BEFORE, None, np.array([[1.0, 0, 0, 0, 0]]), None, None, ((right[0], *[wrong] * 4),),
    )  # fmt: skip
    text = page(folder(tmp_path / "own", [trial(0, 0.5)], finals=[best, before], asked=asked))
    assert sections(text)[:2] == ["finalists", "answers"]
    shown = re.findall(r'class="kind">(.+?)</div>', section(text, "answers"))
    assert shown == ["solved, and missed before training", "missed"] * 2
    assert section(text, "answers").count("\nattempt 1: wrong\n") == 2
    assert BEFORE.capitalize() in section(text, "finalists")
    plain = page(confirmed(tmp_path / "plain"))
    assert 'id="answers"' not in plain, "text answers are below, as before"
    assert sections(plain)[1] == "intervals"


def test_the_gain_is_parted_as_a_sweeps_end_does():
    found = gain(0.72, {"score": 0.2, "lenient": 0.664})
    assert (found.total, found.form, found.skill) == pytest.approx((52.0, 46.4, 5.6))
    assert gain(0.3, {"score": 0.2, "lenient": 0.6}).skill == pytest.approx(0.0)
    assert gain(0.3, {}) is gain(0.3, {"score": 0.2}) is None


def test_the_headline_says_when_nothing_was_learned(tmp_path):
    asked = questions()
    same = [final("trial 0", 0.5, "t0", asked), final(UNTOUCHED, 0.5, None, asked, None, seeds=1)]
    assert headline(Run.read(folder(tmp_path / "a", several(), finals=same, asked=asked))).startswith(
        "Nothing was shown"
    )
    close = [final("trial 0", 0.8, "t0", asked), final("trial 11", 0.8, "t1", asked)]
    said = headline(Run.read(folder(tmp_path / "b", several(), finals=close, asked=asked)))
    assert "cannot be told apart from trial" in said


def test_the_headline_names_what_is_next_once_also_if_that_is_the_best_before_training(tmp_path):
    asked = questions()
    finals = [final("trial 0", 0.95, "t0", asked), final("trial 11", 0.05, "t1", asked)]
    base = final(UNTOUCHED, 0.4, None, asked, None, seeds=1)
    said = headline(Run.read(folder(tmp_path / "s", several(), finals=[*finals, base], asked=asked)))
    assert f"better than every other finalist (than the untouched base, {100 * base.score:.1f} %: +" in said
    assert " Training made trial 11 worse than the untouched base, by " in said
    assert said.count("untouched base") == 2


def test_the_headline_says_that_training_did_harm_by_how_much_and_how_sure(tmp_path):
    asked = questions()
    base = final(UNTOUCHED, 0.9, None, asked, None, seeds=1)
    lost = final("trial 3", 0.1, "t3", asked)
    said = headline(Run.read(folder(tmp_path / "a", several(), finals=[lost, base], asked=asked)))
    gap = 100 * (base.score - lost.score)
    told = f"% on the test split, beats every finalist, by {gap:.1f} points (p = "
    assert said.startswith("Training did harm: the untouched base, ")
    assert told in said
    level = final("trial 0", 0.9, "t0", asked)
    said = headline(Run.read(folder(tmp_path / "b", several(), finals=[lost, level, base], asked=asked)))
    assert said.startswith("Nothing was shown to be learned: ")
    assert f" Training made trial 3 worse than the untouched base, by {gap:.1f} points (p = " in said
    path = folder(tmp_path / "c", [trial(0, 0.05)])
    assert "the untouched base scores 20.0 %, above that interval: training made it worse." in headline(Run.read(path))
    assert "made it worse" not in headline(Run.read(folder(tmp_path / "d", [trial(0, 0.15)])))


def test_a_loss_is_not_parted_into_format_and_skill(tmp_path):
    (lost,) = gain_lines(trial(0, 0.05), {"score": 0.2, "lenient": 0.3}, {})
    assert lost == "untouched base 20.0 %, right in any format 30.0 %; best 5.0 %: training lost 15.0 points"
    head, ((*_,),) = learner_comparison(Run.read(folder(tmp_path / "lost", [trial(0, 0.05)])))
    assert "gain, points" in head
    assert "gain from skill" not in head


def test_tables_show_a_base_without_the_hash_of_its_file(tmp_path):
    hashed = pair(base=f"builtin:smollm2:sha256={'0f' * 32}:float32")
    head, (row,) = learner_comparison(Run.read(folder(tmp_path / "hashed", [trial(0, 0.5)], pairs=[hashed])))
    assert row[head.index("base")] == "builtin:smollm2:float32"


def test_what_a_constant_answer_reaches_needs_no_skill():
    """`Yes` to everything: the untouched base says it in other words to one in ten."""
    baselines = {"chance": 0.5, "constant": 0.53, "untouched": 0.0}
    _, said = gain_lines(trial(0, 0.53), {"score": 0.0, "lenient": 0.1}, baselines)
    assert said.endswith("answer format 10.0 and skill 43.0; constant reaches 53.0 %, so it may be none")
    _, better = gain_lines(trial(0, 0.54), {"score": 0.0, "lenient": 0.1}, baselines)
    assert better.endswith("skill 44.0")


def test_the_headline_says_when_a_constant_answer_is_as_good(tmp_path):
    """60 questions, 3 seeds: half of them right beside 54 % that always say No; nine of ten beside the same."""
    asked, words = questions(), "No better than the constant baseline was shown"
    for rate, told in ((0.5, True), (0.9, False)):
        finals = [final("trial 0", rate, "t0", asked), final(UNTOUCHED, 0.0, None, asked, None, seeds=1)]
        path = folder(tmp_path / str(rate), several(), finals=finals, asked=asked)
        trivial = {"chance": 0.5, "constant": 0.54, "constant.yes_no": 0.99}
        (path / BESIDE).write_text(yaml.safe_dump({"trivial": trivial, "lost": {}}))
        known = {"baselines": trivial | {"constant": 0.0, "untouched": 0.6}}
        (path / "end.yaml").write_text(yaml.safe_dump(known | {"untouched": {}, "seconds": 1.0}))
        assert (words in headline(Run.read(path))) == told
    (path / FINALISTS).unlink()
    assert words not in headline(Run.read(path))  # the search's best, 80 %
