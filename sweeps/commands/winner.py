"""The winner of a sweep, as the commands find it that ask it beside its untouched base."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import BEST, Run
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import open_run, trial_of
from trainables.bad_input import BadInput


class Winner(NamedTuple):
    """`folder`: what its learner saved, an adapter or a whole model; `base`: the base that it belongs to."""

    run: Run
    record: TrialRecord
    folder: Path
    base: str

    @property
    def name(self) -> str:
        return f"trial {self.record.number} ({self.record.learner})"


def open_winner(run: Path, base: str | None) -> Winner:
    """Return the winner of the sweep in a folder. `base`: where its base is, if that is not where it was.

    Raise BadInput for a folder of no sweep, and for a winner that is no single language model.
    """
    source = open_run(run)
    record = trial_of(source, BEST)
    pair = rebuild(source.facts, remote_code=base is not None).resolve(record.params)
    if not pair.learner.needs_base or pair.learner.per_example:
        raise BadInput(f"{source.folder}:", f"its winner ({record.learner}) is no single language model to ask")
    return Winner(source, record, source.best, base or pair.base)
