"""Open the folder of an earlier sweep and look up its trials. A missing folder or trial raises BadInput."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.statistics import interval, wilson
from sweeps.results.uncertainty import clustered_interval
from trainables.bad_input import BadInput
from trainables.core import Split


@dataclass(frozen=True)
class Job:
    """One training of a trial's configuration, and its score: per question, where that is known."""

    record: TrialRecord
    seed: int
    rounds: int
    split: Split
    score: float
    items: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float]:
        if self.record.clusters and self.split == "search":
            return clustered_interval(self.items, self.record.clusters)
        return interval(self.items) if self.items else wilson(self.score * self.record.n_items, self.record.n_items)


def open_run(folder: Path) -> Run:
    """Read a sweep's folder, or the latest phase in a chain's folder. Raises BadInput if no sweep made the folder.

    Use the folder of the returned `Run` from then on: it is not `folder` if that is a chain's.
    """
    if not (folder / SWEEP_FILE).is_file():
        chain = folder.resolve().name  # `folder` may be `.`, or a link
        phases = folder.glob(f"{glob.escape(chain)}-*/{SWEEP_FILE}")
        folder = max(phases, key=lambda path: path.stat().st_mtime, default=folder / SWEEP_FILE).parent
    return Run.read(folder)


def check_no_links(folder: Path) -> None:
    """Raise BadInput if a link lies in a sweep's folder: what is written there would change files elsewhere."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place) / name for name in (*folders, *files)):
            if path.is_symlink():
                raise BadInput(path, "is a link, which no sweep makes", "remove it")


def trial_of(run: Run, which: str) -> TrialRecord:
    """Look up a trial by `best`, its number or its id. Raises BadInput if there is none."""
    try:
        return run.trial(which)
    except LookupError as error:
        raise BadInput(str(error)) from error


def job_of(run: Run, which: str) -> Job:
    """Return how a trial was trained: a finalist with the first of its seeds, another trial as in the search.

    Raises BadInput for a trial that is not there or has no score.
    """
    record = trial_of(run, which)
    seed = run.facts["sweep"].get("seed", 0)
    first = seed + 1 + run.facts["sweep"].get("earlier", {}).get("seeds", 0)
    for one in run.finals:
        if one.trial_id == record.trial_id and one.rounds is not None:
            scores = one.scores[0]
            return Job(record, first, one.rounds, "test", float(scores.mean()), tuple(scores))
    best = record.history.best
    if best is None:
        raise BadInput(f"trial {record.number}", f"{record.status} and has no score to reach again", "choose another")
    return Job(record, seed, int(best["round"]), "search", float(best["score"]), record.items)
