"""The files behind a leaderboard: a Parquet table of every round, and replacing a file in one step."""

from __future__ import annotations

import io
import json
import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.results.leaderboard import TrialRecord


def parquet(records: Sequence[TrialRecord]) -> bytes:
    """One row per trial and round; a trial without rounds has one row with round 0. Axes are columns `params_<axis>`,

    as in Optuna's `trials_dataframe`; other numeric metrics keep their names.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for one in records:
        fixed = {"trial_id": one.trial_id, "number": one.number, "learner": one.learner, "status": one.status}
        params = {"params": json.dumps(one.params, default=str)} | {f"params_{k}": v for k, v in one.params.items()}
        for entry in one.history or [{"round": 0}]:
            timed = {"seconds": entry.get("time_s")}
            metrics = {k: v for k, v in entry.items() if isinstance(v, numbers.Real) and k not in {"time_s", "seconds"}}
            rows.append(fixed | {"round": entry["round"], "score": None, "loss": None} | metrics | timed | params)
    names = dict.fromkeys(["trial_id", "number", "learner", "status", "round", "score", "loss", "seconds", "params"])
    names |= dict.fromkeys(name for row in rows for name in row)
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: _column([row.get(name) for row in rows]) for name in names}), buffer)
    return buffer.getvalue()


def _column(values: list[Any]) -> list[Any]:
    """Values of one type, which is what a column holds: all integers, all numbers as floats, or all text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {int} or kinds <= {str}:
        return values
    if kinds <= {int, float} or all(issubclass(kind, numbers.Real) for kind in kinds):
        return [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]


def replace_file(path: Path, content: bytes) -> None:
    """A reader sees the old file or the new one, never a part; a full disk leaves the old one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
