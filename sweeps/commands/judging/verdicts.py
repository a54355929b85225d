"""What judges said of two replies to one prompt: both orders, what they come to, and a file that only grows.

A judge sees the replies twice, once in each order, as judges favour a place (Zheng et al. 2023, "Judging LLM-as-a-
Judge", section 3.3). A reply wins only if it wins in both; a judge that contradicts itself has said nothing: a tie. An
answer that cannot be read is no tie but a category of its own.
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
    """What a judge said of one order. `scores`: criterion -> (score of A, score of B); `raw`: its own words."""

    winner: Literal["A", "B", "tie", "unparsed"]
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    raw: str = ""


@dataclass(frozen=True)
class Verdict:
    """One judge on one item and two checkpoints, by their hashes (`files.checkpoint_hash`).

    `said`: a hash of the prompt and both replies, so that a verdict on replies of another run is never taken for this.
    `rulings`: with the first checkpoint's reply as A, then as B; none if the replies were equal, as nobody was asked.
    """

    judge: str
    item: str
    first: str
    second: str
    said: str
    rulings: tuple[Ruling, ...] = ()

    @property
    def winner(self) -> Winner:
        """`unparsed` if either order was, a winner if both orders name the same reply, else a tie."""
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
        """Criterion -> (score of the first's reply, of the second's), the mean over both orders; empty if unparsed."""
        if len(self.rulings) < 2 or self.winner == "unparsed":
            return {}
        ahead, behind = (ruling.scores for ruling in self.rulings)
        return {
            name: ((ahead[name][0] + behind[name][1]) / 2, (ahead[name][1] + behind[name][0]) / 2)
            for name in ahead.keys() & behind.keys()
        }

    @property
    def key(self) -> Key:
        """What makes it the same verdict: the same judge, item, checkpoints in either order, and replies."""
        return self.judge, self.item, frozenset((self.first, self.second)), self.said

    def points(self, checkpoint: str) -> float:
        """1 if the checkpoint won, 0 if it lost, 1/2 for a tie, NaN if unparsed. KeyError if it was not judged."""
        if checkpoint not in (self.first, self.second):
            raise KeyError(f"{checkpoint} was not judged in this verdict, only {self.first} and {self.second}")
        if self.winner == "unparsed":
            return float("nan")
        won = {"first": self.first, "second": self.second}.get(self.winner)
        return 0.5 if won is None else float(won == checkpoint)


def read_verdicts(path: Path) -> list[Verdict]:
    """All verdicts of a file, in order; none if there is no file. A last line torn by a kill is left out.

    ValueError with the line's number for anything else that is no verdict.
    """
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")
    return [_verdict(path, number, line) for number, line in enumerate(lines, 1)]


def append_verdicts(path: Path, verdicts: Iterable[Verdict]) -> None:
    """Add verdicts, a line of JSON each, and have them on the disk when this returns. One writer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(asdict(v) | {"winner": v.winner}, ensure_ascii=False) + "\n" for v in verdicts)
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # what a kill has torn
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _verdict(path: Path, number: int, line: bytes) -> Verdict:
    try:
        row: dict[str, Any] = json.loads(line)
        del row["winner"]  # follows from the rulings
        rulings = [
            Ruling(one["winner"], {name: (a, b) for name, (a, b) in one["scores"].items()}, one["raw"])
            for one in row.pop("rulings")
        ]
        return Verdict(**row, rulings=tuple(rulings))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}:{number} is no verdict ({error!r}); remove the line or take a fresh file") from error
