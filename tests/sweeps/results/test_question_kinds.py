"""What training gained on each kind of question: planted gains, and p-values corrected for the number of kinds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sweeps.results.comparison import mcnemar
from sweeps.results.question_kinds import gains, table
from sweeps.results.records import UNTOUCHED
from sweeps.results.run_folder import Run
from tests.support.report_kit import WORDS, final, folder, page, questions, section, several

CAUSAL, OTHER, MATH = WORDS


@pytest.fixture
def run(tmp_path):
    """60 questions, 20 of a kind. Causal ones: from none to all right. Math: 12 of 20, and the same 12 before."""
    asked = questions()
    kinds = np.array([one.kind for one in asked])
    before = np.zeros((1, 60))
    before[0, np.flatnonzero(kinds == MATH)[:12]] = 1
    trained = np.repeat(before, 3, axis=0)
    trained[:, kinds == CAUSAL] = 1
    trained[:, np.flatnonzero(kinds == OTHER)[:1]] = 1
    best = replace(final("trial 0", 0.5, "t0", asked), scores=trained)
    base = replace(final(UNTOUCHED, 0.5, None, asked, None, seeds=1), scores=before)
    return folder(tmp_path / "run", several(), finals=[best, base], asked=asked)


def test_each_kind_has_its_own_gain(run):
    causal, other, maths = gains(Run.read(run))
    assert [(one.kind, one.questions) for one in (causal, other, maths)] == [(CAUSAL, 20), (OTHER, 20), (MATH, 20)]
    assert (causal.untouched, causal.trained, causal.comparison.difference) == (0, 1, 1)
    assert (maths.untouched, maths.trained, maths.comparison.difference) == (0.6, 0.6, 0)
    # All seeds agree, so McNemar's exact test on the 20 questions decides; it is one of three.
    assert causal.comparison.alone == pytest.approx(mcnemar([1.0] * 20, [0.0] * 20))
    assert causal.comparison.p == pytest.approx(3 * causal.comparison.alone)
    assert other.comparison.p == pytest.approx(2 * other.comparison.alone)
    assert maths.comparison.p == 1


def test_the_report_has_the_table(run):
    first, *_ = table(Run.read(run))
    assert first[:6] == [CAUSAL, "20", "-", "0.0 %", "100.0 %", "+100.0"]
    told = section(page(run), "gains")
    assert "Gain by kind of question" in told
    assert "+100.0" in told


def test_one_kind_needs_no_table(tmp_path):
    asked = [replace(one, kind=MATH) for one in questions()]
    finals = [final("trial 0", 0.9, "t0", asked), final(UNTOUCHED, 0.1, None, asked, None, seeds=1)]
    path = folder(tmp_path / "run", several(), finals=finals, asked=asked)
    assert gains(Run.read(path)) == []
    assert 'id="gains"' not in page(path)
