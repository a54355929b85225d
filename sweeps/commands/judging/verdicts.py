"""Verdicts of judges on two replies to one prompt, and the append-only file that holds them.

A judge sees the replies twice, once in each order, because judges have a position bias (Zheng et al. 2023, "Judging
LLM-as-a-Judge", section 3.3). A reply wins only if it wins in both orders. Two contradictory rulings are a tie. An
answer that cannot be parsed is not a tie but a category of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Winner = Literal["first", "second", "tie", "unparsed"]
Key = tuple[str, str, frozenset[str], str]


@dataclass(frozen=True)
class Ruling:
    """A judge's ruling on one order. `scores`: criterion -> (score of A, score of B). `raw`: its whole answer."""

    winner: Literal["A", "B", "tie", "unparsed"]
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    raw: str = ""


@dataclass(frozen=True)
class Verdict:
    """One judge's verdict on one item and two checkpoints, which are named by their hashes (`files.checkpoint_hash`).

    `said`: a hash of the prompt and both replies, so that a verdict on the replies of another run is never reused.
    `rulings`: with the first checkpoint's reply as A, then as B. Empty for equal replies, which no judge sees.
    """

    judge: str
    item: str
    first: str
    second: str
    said: str
    rulings: tuple[Ruling, ...] = ()

    @property
    def winner(self) -> Winner:
        """Return `unparsed` if either order was, the winner if both orders name the same reply, else a tie."""
        match [ruling.winner for ruling in self.rulings]:
            case ["unparsed", _] | [_, "unparsed"]:
                return "unparsed"
            case ["A", "B"]:
                return "first"
            case ["B", "A"]:
                return "second"
            case _:
                return "tie"

    @property
    def scores(self) -> dict[str, tuple[float, float]]:
        """Return criterion -> (mean score of the first's reply, of the second's); empty if unparsed."""
        if len(self.rulings) < 2 or self.winner == "unparsed":
            return {}
        ahead, behind = (ruling.scores for ruling in self.rulings)
        return {
            name: ((ahead[name][0] + behind[name][1]) / 2, (ahead[name][1] + behind[name][0]) / 2)
            for name in ahead.keys() & behind.keys()
        }

    @property
    def key(self) -> Key:
        """Return what identifies a verdict: judge, item, the two checkpoints in any order, and the replies."""
        return self.judge, self.item, frozenset((self.first, self.second)), self.said

    def points(self, checkpoint: str) -> float:
        """Return 1 if the checkpoint won, 0 if it lost, 1/2 for a tie, NaN if unparsed. Raise KeyError for others."""
        if checkpoint not in (self.first, self.second):
            raise KeyError(f"{checkpoint} was not judged in this verdict, only {self.first} and {self.second}")
        if self.winner == "unparsed":
            return float("nan")
        won = {"first": self.first, "second": self.second}.get(self.winner)
        return 0.5 if won is None else float(won == checkpoint)


def read_verdicts(path: Path) -> list[Verdict]:
    """Return all verdicts of a file, in order; none if there is no file. A last line that a kill cut off is left out.

    Raise ValueError with the line's number for any other line that is not a verdict.
    """
    if not path.exists():
        return []
    *lines, _incomplete = path.read_bytes().split(b"\n")
    return [_verdict(path, number, line) for number, line in enumerate(lines, 1)]


def append_verdicts(path: Path, verdicts: Iterable[Verdict]) -> None:
    """Append verdicts, a line of JSON each. They are on the disk when this returns. One writer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(asdict(v) | {"winner": v.winner}, ensure_ascii=False) + "\n" for v in verdicts)
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # a line that a kill cut off
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _verdict(path: Path, number: int, line: bytes) -> Verdict:
    try:
        row: dict[str, Any] = json.loads(line)
        del row["winner"]  # derived from the rulings
        rulings = [
            Ruling(one["winner"], {name: (a, b) for name, (a, b) in one["scores"].items()}, one["raw"])
            for one in row.pop("rulings")
        ]
        return Verdict(**row, rulings=tuple(rulings))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path}:{number} is not a verdict ({error!r}); remove the line, or move the file away"
        ) from error
