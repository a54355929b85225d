"""The result of a sweep in Python: its trials and finalists as tables, its verdict, and its winner as a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sweeps.commands.winner import open_winner
from sweeps.results import plain
from sweeps.results.run_folder import Run
from sweeps.spec.error_policy import Ended
from sweeps.spec.open_run import open_run


class Verdict(NamedTuple):
    """`winner`: the name of the finalist that is better than all others, or None. `tied`: the best one, and those that
    cannot be told apart from it; empty without finalists. `sentences`: what is said about them."""

    winner: str | None = None
    tied: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A sweep that has run. `ended` says how; what it left lies in `folder`, and is read when it is asked for."""

    folder: Path
    ended: Ended = "finished"

    @classmethod
    def of(cls, folder: Path | str) -> Result:
        """Return the result of a sweep that ran before. Raises BadInput for a folder of none."""
        run = open_run(Path(folder))
        return cls(run.folder, "interrupted" if run.end.get("interrupted") or not run.end else "finished")

    @cached_property
    def run(self) -> Run:
        return Run.read(self.folder)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row for each trial, best first: rank, number, learner, score, low, high (95 %), status, params_<axis>"""
        return pd.read_csv(self.folder / "leaderboard.csv")

    @cached_property
    def finalists(self) -> pd.DataFrame:
        """A row for each finalist, best first: name, score on the test split, low, high (95 %), seeds, questions."""
        names = ["name", "trial_id", "trained", "score", "low", "high", "seeds", "questions", "search_score"]
        found = plain.finalists(self.run.confirmation)
        rows = [one | dict(zip(("low", "high"), one["interval"], strict=True)) for one in found]
        return pd.DataFrame(rows, columns=names)

    @cached_property
    def verdict(self) -> Verdict:
        found = plain.verdict(self.run.confirmation)
        if found is None:
            return Verdict()
        return Verdict(found["winner"], tuple(found["tied"]), tuple(found["sentences"]))

    @cached_property
    def plots(self) -> dict[str, Any]:
        """The report's plots as altair charts, by the names of their files in `plots/`: `curves`, `intervals` ..."""
        from sweeps.report.plots import charts

        return charts(self.run)

    @cached_property
    def best(self) -> Any:
        """The winner as a PEFT model on its base, or as a model of transformers if its learner trains all weights.

        Raises BadInput if it is no single language model.
        """
        from trainables.models.side_by_side import trained_model

        winner = open_winner(self.folder, None)
        return trained_model(winner.base, winner.folder)
