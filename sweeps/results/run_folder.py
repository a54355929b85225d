"""Reads the folder of a sweep: all that a report, a reproduction or the next sweep needs of it."""

from __future__ import annotations

import json
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from sweeps.results import run_schema as schema
from sweeps.results.confirmation import Confirmation, confirmation_from
from sweeps.results.records import Final, Status, TrialRecord, clusters_of, winner
from sweeps.results.run_schema import read_yaml
from sweeps.results.tables import BESIDE, FINALISTS, FIXED, TRIALS
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from trainables.atomic import current_path
from trainables.bad_input import BadInput, reading

SWEEP_FILE, END_FILE = "sweep.yaml", "end.yaml"
DATABASE = "optuna.db"
BEST = "best"  # the folder of the winner's adapter
PLOTS = "plots"  # the folder of the report's plots
LOOKS = "looks"  # the folder of what earlier looks at the test split left, by their number
TRIAL_ID = re.compile(r"[A-Za-z0-9_]{1,100}")
TEXTS = ("name", "key", "kind", "prompt", "answer")  # columns of the finalists' answers
NOT_METRICS = {*FIXED, "base", "params", "items", "clusters", "round_seconds", "diverged"}


@dataclass(frozen=True)
class Run:
    """A sweep's folder. Tables are read on first use; those that are not there yet are empty.

    Use `folder` for its path: the path that a user gave may be that of a chain.
    """

    folder: Path
    facts: Mapping[str, Any]  # sweep.yaml: the sweep, versions, commit, data fingerprints, findings of guards
    end: Mapping[str, Any]  # end.yaml: baselines, untouched bases, seconds; empty while the sweep runs

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Raises BadInput for a folder that no sweep has made, and for a damaged one, as what reads its tables does."""
        if not (folder / SWEEP_FILE).is_file():
            beside = sorted(path.parent.name for path in folder.parent.glob(f"*/{SWEEP_FILE}"))
            others = f"{folder.parent} has {', '.join(beside)}" if beside else f"{folder.parent} has none; start one"
            raise BadInput(folder, f"is not a sweep's folder: no {SWEEP_FILE} in it", f"{others}")
        end = folder / END_FILE
        known = read_yaml(end, schema.END) if end.is_file() and end.stat().st_size else {}  # empty after a full disk
        return cls(folder, read_yaml(folder / SWEEP_FILE, schema.SWEEP), known)

    @property
    def best(self) -> Path:
        """The winner's adapter: `best/`, which the next winner's replaces while the sweep runs."""
        return current_path(self.folder / BEST)

    @cached_property
    def records(self) -> list[TrialRecord]:
        """Trials in the order of their numbers."""
        if not (self.folder / TRIALS).is_file():
            return []
        with reading(self.folder / TRIALS):
            table = pd.read_parquet(self.folder / TRIALS)
            return [_record(rows) for _, rows in table.groupby("number", sort=True)]

    @cached_property
    def answers(self) -> pd.DataFrame:
        """`finalists.parquet`: a row per configuration, seed and question of the test split; empty if there is none."""
        path = self.folder / FINALISTS
        if not path.is_file():
            return pd.DataFrame()
        with reading(path):
            return _checked_answers(pd.read_parquet(path))

    @cached_property
    def confirmation(self) -> Confirmation:
        """The finalists, and what else is known of them; without any before they are scored."""
        known = self._beside
        if self.answers.empty:
            return Confirmation(lost=known.get("lost", {}), trivial=known.get("trivial", {}))
        states = known.get("states", {})
        with reading(self.folder / FINALISTS):
            finals = [
                replace(_final(str(name), rows), states=tuple(states.get(name, ())))
                for name, rows in self.answers.groupby("name", sort=False)
            ]
            return confirmation_from(known, finals, clusters_of(self.questions.key.tolist()))

    @cached_property
    def earlier_looks(self) -> list[Confirmation]:
        """The finalists of earlier looks at the test split, the first look first."""
        return earlier_looks(self.folder)

    @property
    def is_search_resumed(self) -> bool:
        """Whether more trials were asked for since its finalists were trained."""
        known = self.confirmation
        return bool(known.finals) and known.look <= len(self.facts.get("more_trials", []))

    @property
    def is_look_due(self) -> bool:
        """Whether trials have come since its finalists were chosen, so that others are to be."""
        return self.is_search_resumed and len(self.records) > self.facts["more_trials"][self.confirmation.look - 1]

    @property
    def finals(self) -> Sequence[Final]:
        """Finalists, best first."""
        return self.confirmation.finals

    @property
    def questions(self) -> pd.DataFrame:
        """A row per question of the test split, in order, with the answers of one finalist that was asked them all."""
        counts = self.answers[self.answers.seed == 0].groupby("name", sort=False).size()
        first = self.answers[(self.answers.name == counts.idxmax()) & (self.answers.seed == 0)]
        return first.sort_values("item")

    @cached_property
    def _beside(self) -> Mapping[str, Any]:
        path = self.folder / BESIDE
        return read_yaml(path, schema.BESIDE) if path.is_file() else {}

    def trial(self, which: str) -> TrialRecord:
        """`best` (the finalists' first, or the search's), a number, or an id. Raises LookupError in one line."""
        if which == "best":
            found = winner(self.records, self.finals)
            if found is None:
                raise LookupError(f"no trial of {self.folder} has a score yet; wait for its first round")
            return found
        for one in self.records:
            if which in (str(one.number), one.trial_id):
                return one
        raise LookupError(
            f"{self.folder} has no trial {which!r}; they are numbered 0 to {len(self.records) - 1}, see leaderboard.md"
        )


def earlier_looks(folder: Path) -> list[Confirmation]:
    """Return the finalists of earlier looks at the test split, the first look first."""
    numbered = sorted(
        (path for path in (folder / LOOKS).glob("[1-9]*") if path.name.isdecimal()), key=lambda p: int(p.name)
    )
    return [known for path in numbered if (known := Run(path, {}, {}).confirmation).finals]


def _record(rows: pd.DataFrame) -> TrialRecord:
    rows = rows.sort_values("round")
    last = rows.iloc[-1]
    history = [_entry(row) for row in rows.to_dict("records") if row["round"] > 0]
    items, clusters = (
        [row for row in rows[name] if row is not None and np.ndim(row)] for name in ("items", "clusters")
    )
    if not TRIAL_ID.fullmatch(last.trial_id):
        raise ValueError(f"a trial has the id {last.trial_id!r}, which cannot be the name of a file")
    if last.status not in get_args(Status):
        raise ValueError(f"trial {last.number} has the status {last.status!r}")
    return TrialRecord(
        trial_id=last.trial_id,
        number=int(last.number),
        params=TrialParams.from_flat(dict(json.loads(last.params)), str(last.learner)),
        status=last.status,
        history=TrialHistory(tuple(history)),
        n_items=int(last.n_items),
        notes=tuple(filter(None, last.notes.split("; "))),
        items=tuple(items[-1]) if items else (),
        clusters=tuple(clusters[-1]) if clusters else (),
    )


def _entry(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a round's metrics as the recorder keeps them, without those that this learner never reported."""
    others = {k: v for k, v in row.items() if k not in NOT_METRICS and not k.startswith("params_")}
    metrics = {k: v for k, v in others.items() if isinstance(v, numbers.Real) and not math.isnan(v)}
    timed = {"round": int(row["round"]), "loss": _number(row["loss"]), "diverged": bool(row["diverged"])}
    if not pd.isna(row["score"]):  # a column has NaN where a round has no score
        timed["score"] = float(row["score"])
    when = {"time_s": row["seconds"], "seconds": row["round_seconds"], "at": row["at"]}
    return metrics | timed | {name: _number(value) for name, value in when.items()}


def _number(value: Any) -> float:
    """Return the value of a cell; NaN for an empty one."""
    return math.nan if value is None else float(value)


def _checked_answers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of finalists' answers with its types. Raises an error for values of other types."""
    for name in TEXTS:
        if not table[name].map(lambda value: isinstance(value, str)).all():
            raise ValueError(f"{name} has a value that is no text")
    table = table.astype({"seed": int, "item": int, "score": float, "searched": float, "rounds": float})
    if any(sorted(rows["item"]) != [*range(len(rows))] for _, rows in table.groupby(["name", "seed"])):
        raise ValueError("a configuration lacks the answer to a question")
    if not np.isfinite(table.score).all():
        raise ValueError("score has a value that is no number")
    return table


def _final(name: str, rows: pd.DataFrame) -> Final:
    rows = rows.sort_values(["seed", "item"])
    seeds, first = rows.seed.nunique(), rows.iloc[0]
    said = rows.completion.to_numpy().reshape(seeds, -1)
    return Final(
        name,
        None if pd.isna(first.searched) else float(first.searched),
        rows.score.to_numpy().reshape(seeds, -1),
        None if pd.isna(first.trial_id) else str(first.trial_id),
        None if pd.isna(first.rounds) else int(first.rounds),
        () if pd.isna(said[0, 0]) else tuple(map(tuple, said.tolist())),
        pair=str(first.get("pair") or ""),
        before=None if pd.isna(first.get("before")) else str(first.before),
    )
