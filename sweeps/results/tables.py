"""The tables that a sweep writes and reads: rounds of trials, finalists' answers (Parquet), the leaderboard (CSV)."""

from __future__ import annotations

import csv
import io
import json
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.results.records import Final, LeaderboardRow, TrialRecord
from trainables.core import Example

TRIALS, FINALISTS, BESIDE = "trials.parquet", "finalists.parquet", "finalists.yaml"
FIXED = ("trial_id", "number", "learner", "status", "notes", "round", "score", "loss", "seconds", "at", "n_items")


def trials_parquet(records: Sequence[TrialRecord], pairs: Sequence[str] = ()) -> bytes:
    """One row per trial and round; a trial without rounds has one row with round 0.

    Axes are columns `params_<axis>`, as in Optuna's `trials_dataframe`, with the names that `TrialParams.flat` gives
    them; other numeric metrics keep their names. `seconds` is the time that has passed in the trial's rounds, including
    that of neighbours in a host; `round_seconds` (its metric `seconds`), `total_seconds`, `train_seconds` and
    `evaluation_seconds` are the trial's own (`trial.Trial`). `at` is the round's end in Unix time.
    `items` are the scores of the best round, one per example; `clusters` are the clusters of these examples, where some
    share one. `base` is the label of the base, in a sweep of several.
    """
    rows, several = [], _several_bases(records)
    for one in records:
        fixed = {"trial_id": one.trial_id, "number": one.number, "learner": one.learner, "status": one.status}
        fixed |= {"notes": "; ".join(one.notes), "n_items": one.n_items} | (
            {"base": one.params.base} if several else {}
        )
        axes = one.params.flat(pairs)
        params = {"params": json.dumps(axes, default=str)} | {f"params_{k}": v for k, v in axes.items()}
        best = one.history.best
        for entry in one.history or [{"round": 0}]:
            timed = {"seconds": entry.get("time_s"), "round_seconds": entry.get("seconds"), "at": entry.get("at")}
            metrics = {k: v for k, v in entry.items() if isinstance(v, numbers.Real) and k not in {"time_s", "seconds"}}
            items = list(one.items) if best and entry is best and one.items else None
            clusters = list(one.clusters) if items and one.clusters else None
            own = {"round": entry["round"], "score": None, "loss": None, "items": items, "clusters": clusters}
            rows.append(fixed | own | metrics | timed | params)
    return _table(rows, [*FIXED, "params", "items", "clusters"])


def _several_bases(records: Sequence[TrialRecord]) -> bool:
    return any(one.params.base for one in records)


def finalists_parquet(finals: Sequence[Final], examples: Sequence[Example]) -> bytes:
    """One row per configuration, seed and question of the test split, with the completion, if there is one.

    `pair` is the name of the configuration's pair, in a sweep of several bases; `before` the name of what it was before
    its training.
    """
    rows, several = [], any(one.base for one in finals)
    for one in finals:
        for seed, scores in enumerate(one.scores):
            said = one.completions[seed] if one.completions else [None] * len(scores)
            asked = zip(examples[: len(scores)], scores, said, strict=True)
            for item, (example, score, text) in enumerate(asked):
                fixed: dict[str, Any] = {
                    "name": one.name,
                    "trial_id": one.trial_id,
                    "searched": one.searched,
                    "seed": seed,
                }
                fixed |= {"rounds": one.rounds, "before": one.before} | ({"pair": one.pair} if several else {})
                question = {"key": example.key, "kind": example.kind, "prompt": example.prompt}
                question["answer"] = example.answer
                rows.append(fixed | {"item": item, "score": float(score), "completion": text} | question)
    return _table(rows, ["name", "trial_id", "searched", "seed", "item", "score", "completion"])


def leaderboard_csv(rows: Sequence[LeaderboardRow], pairs: Sequence[str] = ()) -> str:
    """One line per trial, the best first; axes are named as in `trials_parquet`."""
    params = [row.record.params.flat(pairs) for row in rows]
    axes = list(dict.fromkeys(axis for one in params for axis in one))
    text = io.StringIO()
    head = ["rank", "trial_id", "number", "learner", "score", "low", "high", "n_items", "rounds", "status", "seconds"]
    lines = csv.writer(text, lineterminator="\n")
    several = _several_bases([row.record for row in rows])
    lines.writerow([*head, *(["base"] if several else []), *(f"params_{axis}" for axis in axes)])
    for row, own in zip(rows, params, strict=True):
        one, bounds = row.record, row.interval or (None, None)
        cells = [row.rank, one.trial_id, one.number, one.learner, one.score, *bounds, one.n_items, one.rounds]
        lines.writerow(
            [
                *cells,
                one.status,
                one.seconds,
                *([one.params.base] if several else []),
                *(own.get(axis) for axis in axes),
            ]
        )
    return text.getvalue()


def _table(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: _column([row.get(name) for row in rows]) for name in names}), buffer)
    return buffer.getvalue()


def _column(values: list[Any]) -> list[Any]:
    """Convert values to one type, as a column must have: all integers, all floats, all lists, or all text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {int} or kinds <= {str} or kinds <= {list}:
        return values
    if kinds <= {int, float} or all(issubclass(kind, numbers.Real) for kind in kinds):
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]
