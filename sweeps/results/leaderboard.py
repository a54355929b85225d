"""The leaderboard: ranks, the axes in which trials differ, and conclusions, as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sweeps.results.records import LeaderboardRow, TrialRecord, can_win, untouched_baseline
from sweeps.results.search_comparison import POWER, against_trivial, tied_with_best
from sweeps.results.statistics import Interval
from sweeps.results.tables import TRIALS, leaderboard_csv, trials_parquet
from sweeps.results.terminal import printable
from sweeps.results.trial_params import START, TrialParams
from trainables.atomic import replace_file


def status_words(record: TrialRecord) -> str:
    where = {"pruned": " at", "paused": " at", "diverged": " in", "failed": " after", "interrupted": " after"}
    where["running"] = ", after"
    words = record.status + (f"{where[record.status]} round {record.rounds}" if record.status in where else "")
    return ", ".join([words, *record.notes])


def varying_axes(params: Sequence[TrialParams]) -> list[tuple[str, str]]:
    """Return the (learner, field) pairs whose value differs between some of `params`, in order of first appearance.

    An absent field counts as a value, so a field that only one learner has differs from trials of the others.
    """
    known = [_by_learner(one) for one in params]
    axes = dict.fromkeys(axis for one in known for axis in one)
    return [axis for axis in axes if len({repr(one.get(axis, ...)) for one in known}) > 1]


def _by_learner(params: TrialParams) -> dict[tuple[str, str], Any]:
    """Return the fields by (learner, field); the start of a clone is under an empty learner."""
    fields = {(params.learner, name): value for name, value in params.fields.items()}
    return fields if params.start is None else fields | {("", START): params.start}


def shown(value: Any) -> str:
    """Format a parameter: three significant digits for floats, a file's name without its folder."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).rpartition("/")[2]


def differences(params: TrialParams, axes: Sequence[tuple[str, str]]) -> str:
    """`learning_rate=0.0003 r=8`: the fields of this configuration that are among `axes` (from `varying_axes`)."""
    own = _by_learner(params)
    return " ".join(f"{axis[1]}={shown(own[axis])}" for axis in axes if axis in own)


def rank(records: Sequence[TrialRecord]) -> list[LeaderboardRow]:
    """Sort trials, the best first. Trials that cannot win, or have no score yet, come last and carry no rank."""
    axes = varying_axes([record.params for record in records])
    several = len({record.pair for record in records}) > 1

    def place(record: TrialRecord) -> tuple[bool, float, int]:
        return (not can_win(record), -(record.score or 0.0), record.number)

    rows: list[LeaderboardRow] = []
    for position, record in enumerate(sorted(records, key=place), start=1):
        tied = bool(rows) and rows[-1].record.score == record.score
        own = (rows[-1].rank if tied else position) if can_win(record) else None
        text = f"{record.pair if several else ''} {differences(record.params, axes)}".strip()
        rows.append(LeaderboardRow(own, record, text or "-", record.interval()))
    return rows


def verdict(rows: Sequence[LeaderboardRow], baselines: Mapping[str, float]) -> list[str]:
    """Conclude which trials tie with the best, which difference n items can show, and whether the best beats trivial
    strategies."""
    ranked = [row for row in rows if row.rank is not None]
    trivial = {name: value for name, value in baselines.items() if "." not in name}  # `constant.<kind>` are details
    lines = [", ".join(f"{name} {percent(value)}" for name, value in trivial.items())] if trivial else []
    found = tied_with_best([row.record for row in ranked])
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
        own = untouched_baseline(best.record.params.base)
        for other in dict.fromkeys([name, *([own] if own in trivial else [])]):
            worse = ranked[0].interval[1] < trivial[other]
            if worse:
                sure = "beyond its interval: " + ("training made it worse" if other == own else "it is worse")
            if worse or other == name:
                apart = 100 * ((best.record.score or 0.0) - trivial[other])
                lines.append(f"best against {other}: {apart:+.1f} points, {sure}")
    return lines


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def span(bounds: Interval | None) -> str:
    return "-" if bounds is None else f"{100 * bounds[0]:.1f}-{100 * bounds[1]:.1f}"


def markdown(
    rows: Sequence[LeaderboardRow], baselines: Mapping[str, float], title: str, remarks: Sequence[str] = ()
) -> str:
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
    pairs: Sequence[str] = (),
    remarks: Sequence[str] = (),
    section: str = "",
) -> None:
    """Write `leaderboard.md`, `leaderboard.csv` and `trials.parquet` into `folder`, each replaced in one rename.

    `baselines` holds `chance` and trivial scores in [0, 1]; `rounds` is the length of a finished trial; `pairs` are
    those of the sweep, whose names prefix the axes where there are several; `remarks` are added to the conclusions;
    `section` is appended.
    """
    rows = rank(records)
    title = f"{folder.name}: {len(records)} trials of up to {rounds} rounds"
    sections = [markdown(rows, baselines, title, remarks), *([section] if section else [])]
    replace_file(folder / "leaderboard.md", "\n".join(sections).encode())
    replace_file(folder / "leaderboard.csv", leaderboard_csv(rows, pairs).encode())
    replace_file(folder / TRIALS, trials_parquet(records, pairs))


def print_table(
    records: Sequence[TrialRecord], baselines: Mapping[str, float], top: int = 10, console: Console | None = None
) -> None:
    """Print the first `top` rows and the verdict; long configurations are folded."""
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
        table.add_row(
            place, number, score, span(row.interval), str(one.rounds), printable(one.status), printable(row.differs)
        )
    console.print(table, markup=False) if rows else console.print("no trial has started yet")
    if len(rows) > top:
        console.print(f"and {len(rows) - top} more in leaderboard.md")
    for line in verdict(rows, baselines):
        console.print(printable(line), markup=False, highlight=False)
