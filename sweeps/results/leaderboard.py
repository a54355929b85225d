"""The leaderboard: what differs between trials, how sure a score is, and who cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from sweeps.results.files import TRIALS, parquet, table
from sweeps.results.search_comparison import POWER, against_trivial, level
from sweeps.results.statistics import Interval, interval, wilson
from sweeps.results.trial_history import TrialHistory, has_diverged
from sweeps.results.uncertainty import of_clusters
from trainables.atomic import replace_file

Status = Literal["finished", "pruned", "diverged", "failed", "interrupted", "running"]
UNRANKED = ("diverged", "failed")  # a diverged trial has no usable weights, a failed one may have none
Params = Mapping[str, Any]


@dataclass(frozen=True)
class TrialRecord:
    """One trial so far. `items` are the per-example scores of its best round, if known."""

    trial_id: str
    number: int
    learner: str
    params: dict[str, Any]
    status: Status
    history: TrialHistory = field(default_factory=TrialHistory, repr=False)
    n_items: int = 0
    notes: tuple[str, ...] = ()
    items: tuple[float, ...] = field(default=(), repr=False)
    clusters: tuple[str, ...] = field(default=(), repr=False)  # what each item belongs to; empty: all are independent

    @property
    def rounds(self) -> int:
        """Rounds that were completed."""
        return self.history.rounds

    @property
    def score(self) -> float | None:
        """The best round's."""
        return self.history.score

    @property
    def last_score(self) -> float | None:
        return self.history.last_score

    @property
    def seconds(self) -> float:
        return self.history.seconds

    @property
    def independent(self) -> int:
        """Items that no other is a copy of."""
        return len({*self.clusters}) or self.n_items

    def interval(self) -> Interval | None:
        """95 % interval of the score over its examples; None without examples or a score in [0, 1]."""
        if self.score is None or not 0 <= self.score <= 1 or self.n_items < 1:
            return None
        if self.items and self.clusters:
            return of_clusters(self.items, self.clusters)
        return interval(self.items) if self.items else wilson(self.score * self.n_items, self.n_items)


@dataclass(frozen=True)
class Row:
    """A line of the leaderboard. `rank` is None for trials that cannot win; equal scores share a rank."""

    rank: int | None
    record: TrialRecord
    differs: str
    interval: Interval | None


def how_ended(result: Mapping[str, Any], rounds: int, error: bool = False) -> Status:
    """How a trial ended, from its last result. Tune sets `done` on the result after which it stops a trial.

    Without `done` the trial was cut short from outside (Ctrl-C, a time budget).
    """
    if error:
        return "failed"
    if has_diverged(result):
        return "diverged"
    if result.get("training_iteration", 0) >= rounds:
        return "finished"
    return "pruned" if result.get("done") else "interrupted"


def status_words(record: TrialRecord) -> str:
    where = {"pruned": " at", "diverged": " in", "failed": " after", "interrupted": " after", "running": ", after"}
    words = record.status + (f"{where[record.status]} round {record.rounds}" if record.status in where else "")
    return ", ".join([words, *record.notes])


def varying_axes(params: Sequence[Params]) -> list[str]:
    """The axes that do not have the same value in all of `params`, in order of first appearance; absent is a value."""
    axes = dict.fromkeys(axis for one in params for axis in one)
    return [axis for axis in axes if len({repr(one.get(axis, ...)) for one in params}) > 1]


def shown(value: Any) -> str:
    """A parameter as people write it: three significant digits for floats, a file's name without its folder."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).rpartition("/")[2]


def differences(params: Params, axes: Sequence[str], learner: str = "") -> str:
    """`learning_rate=0.0003 r=8`: the given axes that this configuration has; `lora.r` is `r` for `lora`."""
    return " ".join(
        f"{a.removeprefix(f'{learner}.')}={shown(params[a])}" for a in axes if a in params and a != "learner"
    )


def rank(records: Sequence[TrialRecord]) -> list[Row]:
    """Best first. Trials that cannot win, or have no score yet, come last and carry no rank."""
    axes = varying_axes([record.params for record in records])
    learners = len({record.learner for record in records}) > 1

    def place(record: TrialRecord) -> tuple[bool, float, int]:
        return (not _ranked(record), -(record.score or 0.0), record.number)

    rows: list[Row] = []
    for position, record in enumerate(sorted(records, key=place), start=1):
        tied = bool(rows) and rows[-1].record.score == record.score
        own = (rows[-1].rank if tied else position) if _ranked(record) else None
        text = f"{record.learner if learners else ''} {differences(record.params, axes, record.learner)}".strip()
        rows.append(Row(own, record, text or "-", record.interval()))
    return rows


def _ranked(record: TrialRecord) -> bool:
    return record.score is not None and record.status not in UNRANKED


def by_score(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Those that can win, the highest score of any round first; the earlier trial on a tie."""
    return sorted(filter(_ranked, records), key=lambda one: (-(one.score or 0.0), one.number))


def verdict(rows: Sequence[Row], baselines: Mapping[str, float]) -> list[str]:
    """What may be concluded: who cannot be told from the best, what n can show, and whether the trivial is beaten."""
    ranked = [row for row in rows if row.rank is not None]
    trivial = {name: value for name, value in baselines.items() if "." not in name}  # `constant.<kind>` are details
    lines = [", ".join(f"{name} {percent(value)}" for name, value in trivial.items())] if trivial else []
    found = level([row.record for row in ranked])
    if found is None or ranked[0].interval is None:
        return lines
    best, places, n = ranked[0], found.places, found.n
    if len(places) > 1:
        last = ranked[places[-1]].rank if places[-1] == len(places) - 1 else None
        span_of = f"1-{last}" if last else ", ".join(str(ranked[place].rank) for place in places)
        ranks = "Scores at rank 1" if last == 1 else f"Ranks {span_of}"
        lines.append(f"{ranks} ({len(places)} trials) cannot be told apart at n={n} ({found.how()})")
    elif len(ranked) > 1:
        lines.append(f"Rank 1 is better than all others at n={n} ({found.how()})")
    lines.append(f"n={n} shows differences from {100 * found.shown:.0f} points up ({100 * POWER:.0f} % power)")
    if trivial:
        name, looks, beyond = against_trivial([row.record for row in ranked], trivial)
        luck = f"what luck may give the best of {looks} scores"
        sure = f"beyond {luck}" if beyond else f"within {luck}: it may be no better"
        for other in dict.fromkeys([name, *(["untouched"] if "untouched" in trivial else [])]):
            worse = ranked[0].interval[1] < trivial[other]
            if worse:
                sure = "beyond its interval: " + ("training made it worse" if other == "untouched" else "it is worse")
            if worse or other == name:
                apart = 100 * ((best.record.score or 0.0) - trivial[other])
                lines.append(f"best against {other}: {apart:+.1f} points, {sure}")
    return lines


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def span(bounds: Interval | None) -> str:
    return "-" if bounds is None else f"{100 * bounds[0]:.1f}-{100 * bounds[1]:.1f}"


def markdown(rows: Sequence[Row], baselines: Mapping[str, float], title: str, remarks: Sequence[str] = ()) -> str:
    lines = [
        f"# {title}",
        "",
        "| rank | trial | score | 95 % interval | rounds | status | what differs |",
        "|---:|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        one = row.record
        cells = [row.rank or "-", one.number, percent(one.score), span(row.interval), one.rounds, status_words(one)]
        lines.append("| " + " | ".join(str(cell) for cell in [*cells, row.differs.replace("|", "\\|")]) + " |")
    notes = [
        *verdict(rows, baselines),
        *remarks,
        "Scores are on the search split, each the best of its rounds: what finalists score on the test split counts",
    ]
    return "\n".join([*lines, "", *(f"- {note}." for note in notes), ""])


def write_all(
    folder: Path,
    records: Sequence[TrialRecord],
    *,
    baselines: Mapping[str, float],
    rounds: int,
    title: str = "",
    remarks: Sequence[str] = (),
    section: str = "",
) -> None:
    """Write `leaderboard.md`, `leaderboard.csv` and `trials.parquet` into `folder`, each replaced in one rename.

    `baselines` holds `chance` and trivial scores in [0, 1]; `rounds` is what a finished trial has run; `remarks` are
    added to what may be concluded, `section` stands at the end.
    """
    rows = rank(records)
    title = title or f"{folder.name}: {len(records)} trials of up to {rounds} rounds"
    sections = [markdown(rows, baselines, title, remarks), *([section] if section else [])]
    replace_file(folder / "leaderboard.md", "\n".join(sections).encode())
    replace_file(folder / "leaderboard.csv", table(rows).encode())
    replace_file(folder / TRIALS, parquet(records))


def print_table(
    records: Sequence[TrialRecord], baselines: Mapping[str, float], top: int = 10, console: Console | None = None
) -> None:
    """The first `top` rows and the verdict, for a terminal; long configurations are folded."""
    console, rows = console or Console(), rank(records)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("rank", "trial", "score %", "95 %", "rounds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("what differs", overflow="fold")
    for row in rows[:top]:
        one = row.record
        score = "-" if one.score is None else f"{100 * one.score:.1f}"
        place, number = str(row.rank or "-"), str(one.number)
        table.add_row(place, number, score, span(row.interval), str(one.rounds), one.status, row.differs)
    console.print(table, markup=False) if rows else console.print("no trial has started yet")
    if len(rows) > top:
        console.print(f"and {len(rows) - top} more in leaderboard.md")
    for line in verdict(rows, baselines):
        console.print(line, markup=False, highlight=False)
