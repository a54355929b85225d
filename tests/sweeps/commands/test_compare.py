"""`espalier compare`: two sweeps' finalists on the questions that both were asked, or without any in common."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml

from sweeps.commands.compare import compare
from sweeps.results.comparison import compare as compare_finalists
from sweeps.results.run_folder import Run
from sweeps.results.two_sweeps import difference_of
from tests.support import report_kit
from tests.support.report_kit import final, questions, several
from trainables.bad_input import BadInput

ASKED = questions(300)
OTHERS = [replace(one, prompt=f"And {one.prompt}", key=f"x{one.key}") for one in ASKED]


def sweep(path, rate, asked, name="trial 0", seeds=3):
    finals = [final(name, rate, "t0", asked, seeds=seeds), final("trial 3", rate / 2, "t3", asked, seeds=seeds)]
    return report_kit.folder(path, several(), finals=finals, asked=asked)


def test_the_same_questions_in_another_order_are_paired(tmp_path, capsys):
    """The second sweep was asked fewer, in another order: the difference is that on the common questions, by hand."""
    few = ASKED[100:200][::-1]
    one, other = sweep(tmp_path / "one", 0.5, ASKED), sweep(tmp_path / "other", 0.8, few)
    found = difference_of([Run.read(one), Run.read(other)])
    first = Run.read(other).finals[0].scores
    second = Run.read(one).finals[0].scores[:, 100:200][:, ::-1]
    assert (found.first, found.second, found.common) == ("other: trial 0", "one: trial 0", 100)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    alone = {"other": first, "one": second}
    assert found.interval == pytest.approx(compare_finalists(alone)[0].interval, abs=0.03), "all finalists' seeds count"
    compare(one, other)
    said = capsys.readouterr().out
    assert "on 100 questions that both were asked" in said
    assert "other: trial 0 is better than one: trial 0 (+" in said
    assert "warning" not in said


def test_equal_sweeps_on_other_questions_are_not_told_apart(tmp_path, capsys):
    """The best of each is the luckiest of two, which the correction allows for."""
    shown = 0
    for draw in range(20):
        rng, runs = np.random.default_rng(draw), []
        for name in ("one", "other"):
            asked = ASKED if name == "one" else OTHERS
            finals = [final(f"trial {i}", 0.5, f"t{i}", asked) for i in (0, 3)]
            for each in finals:
                each.scores[:] = rng.random(each.scores.shape) < 0.5
            runs.append(report_kit.folder(tmp_path / f"{name}{draw}", several(2), finals=finals, asked=asked))
        found = difference_of([Run.read(run) for run in runs])
        assert found.common == 0
        shown += found.is_shown
    assert shown <= 2, "at most 5 % in the long run"
    compare(*runs)
    assert "warning: the sweeps were asked different questions" in capsys.readouterr().out


def test_what_does_not_compare_is_refused_in_one_line(tmp_path):
    one = sweep(tmp_path / "one", 0.5, ASKED)
    with pytest.raises(BadInput, match="are the same sweep"):
        compare(one, tmp_path / "one/../one")
    with pytest.raises(BadInput, match="none has no finalists"):
        compare(one, report_kit.folder(tmp_path / "none", several()))
    other = sweep(tmp_path / "other", 0.5, ASKED)
    facts = yaml.safe_load((other / "sweep.yaml").read_text())
    facts["sweep"]["pairs"][0]["task"] |= {"name": "style"}
    (other / "sweep.yaml").write_text(yaml.safe_dump(facts))
    with pytest.raises(BadInput, match=r"one is about arena and .*other about style") as refused:
        compare(one, other)
    assert "\n" not in str(refused.value)
