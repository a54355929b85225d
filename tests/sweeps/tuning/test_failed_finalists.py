"""Finalists that fail or diverge are named with the reason; if all do, no winner is declared."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.results.confirmation import Confirmation
from sweeps.results.decision import Budget
from sweeps.results.records import UNTOUCHED, Candidate, Final
from sweeps.results.run_folder import Run
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.confirmation import Finalists, go_on
from sweeps.tuning.finalists import Answers, TrialPlaces
from sweeps.tuning.recorder import Recorder
from tests.support.report_kit import final, folder, questions, several
from tests.support.toy_sweep import SWEEP as TOY
from trainables.runtime.trial import FinalistJob

ASKED = questions()
BASE = Final(UNTOUCHED, None, np.ones((1, len(ASKED))))


def candidate(number, planted):
    return Candidate(f"t{number}", f"trial {number}", TrialParams("toy", {"quality": 0.5, "planted": planted}), 2, 0.5)


def test_one_that_is_missing_is_named_beside_those_that_are_not(tmp_path):
    recorder = Recorder(folder(tmp_path / "run", several()), TOY, {})
    recorder.records = {one.trial_id: one for one in several()}
    finals = [final("trial 0", 0.9, "t0", ASKED), BASE]
    recorder.confirmation = Confirmation(finals, lost={"trial 5": "diverged with seed 2"})
    recorder.write()
    board = (tmp_path / "run/leaderboard.md").read_text()
    assert "- trial 5 is left out of the finalists: it diverged with seed 2." in board
    assert "No finalist finished" not in board


def test_what_is_known_beside_the_answers_is_there_as_soon_as_they_are(tmp_path):
    """A driver that is killed before it writes its end has left the table of answers."""
    run = folder(tmp_path / "run", several(), end=False)
    recorder = Recorder(run, TOY, {})
    known = Confirmation([BASE], lost={"trial 5": "diverged with seed 2"}, trivial={"chance": 0.1})
    recorder.confirm(known, {}, ASKED)
    left = Run.read(run).confirmation
    assert (left.trivial, left.lost) == ({"chance": 0.1}, {"trial 5": "diverged with seed 2"})


@pytest.mark.parametrize("base_answered", [True, False])
def test_a_second_seed_that_fails_may_leave_no_finalist(base_answered, tmp_path):
    """The only finalist was trained with one seed and fails with the next."""

    class Failing(Finalists):
        def extend(self, sizes):
            job = FinalistJob("trial 0", TrialParams("toy", {}), 2, TOY.seed + 2, (0, 2))
            self.keep(job, Answers(fault="diverged"))
            return True

    answers = {"trial 0": [Answers((1.0, 0.0), train_seconds=1.0)]}
    answers |= {UNTOUCHED: [Answers((0.0, 0.0))]} if base_answered else {}
    chosen = {"trial 0": candidate(0, "nothing")}
    finalists = Failing(TOY, TrialPlaces({}, None, None), tmp_path, chosen, answers, seconds=2.0)
    recorded = []
    known = go_on(finalists, Confirmation(), Budget(20.0), [], recorded.append)
    assert recorded == [known]
    assert known.lost == {"trial 0": f"diverged with seed {TOY.seed + 2}"}
    assert [*known.finals] == []
