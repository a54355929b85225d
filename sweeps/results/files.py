"""The files behind a leaderboard: tables of every round and of every final answer."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.results.finals import Final
    from sweeps.results.leaderboard import Row, TrialRecord
    from trainables.core import Example

TRIALS, FINALISTS, BESIDE = "trials.parquet", "finalists.parquet", "finalists.yaml"
CONFIGS = ("adapter_config.json", "config.json")
FIXED = ("trial_id", "number", "learner", "status", "notes", "round", "score", "loss", "seconds", "at", "n_items")


def parquet(records: Sequence[TrialRecord]) -> bytes:
    """One row per trial and round; a trial without rounds has one row with round 0. Axes are columns `params_<axis>`,

    as in Optuna's `trials_dataframe`; other numeric metrics keep their names. `seconds` is the time that has passed in
    the trial's rounds, with that of neighbours in a host; `round_seconds` (its metric `seconds`), `total_seconds`,
    `train_seconds` and `evaluation_seconds` are its own (`trial.Trial`). `at` is the round's end in Unix time, `items`
    are the scores of the round that was best, one per example, `clusters` what each belongs to, where several belong
    together.
    """
    rows = []
    for one in records:
        fixed = {"trial_id": one.trial_id, "number": one.number, "learner": one.learner, "status": one.status}
        fixed |= {"notes": "; ".join(one.notes), "n_items": one.n_items}
        params = {"params": json.dumps(one.params, default=str)} | {f"params_{k}": v for k, v in one.params.items()}
        best = one.history.best
        for entry in one.history or [{"round": 0}]:
            timed = {"seconds": entry.get("time_s"), "round_seconds": entry.get("seconds"), "at": entry.get("at")}
            metrics = {k: v for k, v in entry.items() if isinstance(v, numbers.Real) and k not in {"time_s", "seconds"}}
            items = list(one.items) if best and entry is best and one.items else None
            clusters = list(one.clusters) if items and one.clusters else None
            own = {"round": entry["round"], "score": None, "loss": None, "items": items, "clusters": clusters}
            rows.append(fixed | own | metrics | timed | params)
    return _table(rows, [*FIXED, "params", "items", "clusters"])


def finalists_parquet(finals: Sequence[Final], examples: Sequence[Example]) -> bytes:
    """One row per configuration, seed and question of the test split, with what was said to it, if anything was."""
    rows = []
    for one in finals:
        for seed, scores in enumerate(one.scores):
            said = one.completions[seed] if one.completions else [None] * len(examples)
            for item, (example, score, text) in enumerate(zip(examples, scores, said, strict=True)):
                fixed: dict[str, Any] = {
                    "name": one.name,
                    "trial_id": one.trial_id,
                    "searched": one.searched,
                    "seed": seed,
                }
                fixed |= {"rounds": one.rounds}
                asked = {"key": example.key, "kind": example.kind, "prompt": example.prompt, "answer": example.answer}
                rows.append(fixed | {"item": item, "score": float(score), "completion": text} | asked)
    return _table(rows, ["name", "trial_id", "searched", "seed", "item", "score", "completion"])


def table(rows: Sequence[Row]) -> str:
    """`leaderboard.csv`: a line per trial, the best first."""
    axes = list(dict.fromkeys(axis for row in rows for axis in row.record.params))
    text = io.StringIO()
    head = ["rank", "trial_id", "number", "learner", "score", "low", "high", "n_items", "rounds", "status", "seconds"]
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*head, *(f"params_{axis}" for axis in axes)])
    for row in rows:
        one, bounds = row.record, row.interval or (None, None)
        cells = [row.rank, one.trial_id, one.number, one.learner, one.score, *bounds, one.n_items, one.rounds]
        lines.writerow([*cells, one.status, one.seconds, *(one.params.get(axis) for axis in axes)])
    return text.getvalue()


def _table(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: _column([row.get(name) for row in rows]) for name in names}), buffer)
    return buffer.getvalue()


def _column(values: list[Any]) -> list[Any]:
    """Values of one type, which is what a column holds: all integers, all numbers as floats, all lists, or all text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {int} or kinds <= {str} or kinds <= {list}:
        return values
    if kinds <= {int, float} or all(issubclass(kind, numbers.Real) for kind in kinds):
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]


def checkpoint_hash(folder: str | Path) -> str:
    """12 hex digits that are the same for the same weights and configuration, wherever they lie.

    Of every safetensors file and its configuration, below the folder too (a hybrid's halves), what this prints:
    `sha256sum adapter_config.json adapter_model.safetensors | sha256sum`, paths sorted. ValueError without weights.
    """
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.suffix == ".safetensors" or path.name in CONFIGS)
    if not any(path.suffix == ".safetensors" for path in files):
        raise ValueError(f"{root} holds no safetensors weights; give the folder of an adapter or a model")
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(root).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
