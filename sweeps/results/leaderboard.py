"""The leaderboard: ranks, the axes in which trials differ, and conclusions, as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
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

# The columns on a terminal, by the characters of a line that they need at least.
TABLES = {
    100: ("rank", "trial", "score %", "95 %", "rounds", "status", "what differs"),
    64: ("rank", "trial", "score %", "95 %", "status", "what differs"),
    0: ("trial", "score %", "what differs"),
}


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


def from_the_best(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return the fields of each trial that the best of its pair has otherwise. One that only the best has is `r=-`."""
    best = _best_of_pairs(rows)
    return [_from(row, best[row.record.pair]) for row in rows]


def _best_of_pairs(rows: Sequence[LeaderboardRow]) -> dict[str, LeaderboardRow]:
    best: dict[str, LeaderboardRow] = {}
    for row in rows:
        best.setdefault(row.record.pair, row)
    return best


def _from(row: LeaderboardRow, best: LeaderboardRow) -> str:
    if row is best:
        return "(the best)"
    own, other = _by_learner(row.record.params), _by_learner(best.record.params)
    changed = [axis for axis in own | other if repr(own.get(axis, ...)) != repr(other.get(axis, ...))]
    changed.sort(key=lambda axis: "learning_rate" not in axis[1])  # first, as a line may have no room for the others
    return " ".join(f"{axis[1]}={shown(own.get(axis, '-'))}" for axis in changed) or "(as the best)"


def _best_in_full(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Say what the best trial of each pair is, by the fields in which the pair's trials differ."""
    found = _best_of_pairs(rows)
    lines = []
    for pair, row in found.items():
        axes = varying_axes([other.record.params for other in rows if other.record.pair == pair])
        if told := differences(row.record.params, axes):
            lines.append(f"trial {row.record.number}, the best{f' of {pair}' if len(found) > 1 else ''}: {told}")
    return lines


def _cells(row: LeaderboardRow) -> dict[str, str]:
    """Return the cells of a row, but for the last, by the names of their columns."""
    one = row.record
    score = "-" if one.score is None else f"{100 * one.score:.1f}"
    cells = [str(row.rank or "-"), str(one.number), score, span(row.interval), str(one.rounds), one.status]
    return dict(zip(TABLES[max(TABLES)], cells, strict=False))


def print_table(
    records: Sequence[TrialRecord], baselines: Mapping[str, float], top: int = 10, console: Console | None = None
) -> None:
    """Print the first `top` rows, a line for each; the best configuration of each pair; and the verdict.

    A narrow console gets fewer columns, and fields that do not fit into a line are left out (`…`).
    """
    console, rows = console or Console(), rank(records)
    columns = next(names for width, names in TABLES.items() if console.width >= width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        number = name not in ("status", "what differs")
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    told = [[printable(_cells(row)[name]) for name in columns[:-1]] for row in rows[:top]]
    taken = sum(2 + max(map(len, cells)) for cells in zip(columns[:-1], *told, strict=True))
    several = len({row.record.pair for row in rows}) > 1
    for row, cells, differs in zip(rows, told, from_the_best(rows), strict=False):
        differs = f"{row.record.pair} {differs}" if several else differs
        table.add_row(*cells, shorten(printable(differs), max(1, console.width - taken), placeholder="…"))
    console.print(table, markup=False) if rows else console.print("no trial has started yet")
    if len(rows) > top:
        console.print(f"and {len(rows) - top} more in leaderboard.md")
    for line in [*_best_in_full(rows), *verdict(rows, baselines)]:
        console.print(printable(line), markup=False, highlight=False)
