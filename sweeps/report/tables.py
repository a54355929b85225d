"""The small tables of a sweep's page: what training gained for each learner, what it cost, and how it was made."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from sweeps.report.chart_style import finite
from sweeps.results.gain import gain
from sweeps.results.leaderboard import percent
from sweeps.results.records import TrialRecord, by_score
from sweeps.results.run_folder import Run


def comparison(run: Run) -> tuple[list[str], list[list[str]]]:
    """A row per learner and base, as head and rows of a table; columns that nobody has an entry for are left out.

    Tokens and seconds are of trials' own work: in packed seats, of their share of the host's time (`Host.round`).
    """
    rows = []
    finals = {one.trial_id: one for one in reversed(run.finals) if one.trial_id}
    for pair in run.facts.get("sweep", {}).get("pairs", []):
        learner = pair["learner"]["name"]
        trials = [one for one in run.records if one.learner == learner]
        if not trials:
            continue
        best = next(iter(by_score(trials)), None)
        before = run.end.get("untouched", {}).get(learner, {})
        won = gain(best.score if best else None, before)
        tested = [finals[one.trial_id].score for one in trials if one.trial_id in finals]
        rows.append(
            {
                "learner": learner,
                "base": "-" if pair["base"] == "none" else pair["base"],
                "trials": str(len(trials)),
                "untouched": percent(next(iter(finite([before.get("score")])), None)),
                "best in search": f"{percent(best.score)} (trial {best.number})" if best else "-",
                "gain, points": f"{won.total:+.1f}" if won else "-",
                "of it format": f"{won.form:+.1f}" if won and won.total >= 0 else "-",
                "of it skill": f"{won.skill:+.1f}" if won and won.total >= 0 else "-",
                "best on test": percent(max(tested, default=None)),
                "trained parameters": _parameters(trials),
                "tokens per second of training": _middle(trials, "tokens_per_second", "{:,.0f}"),
                "peak memory, MiB": _middle(trials, "peak_memory_mib", "{:,.0f}"),
                "training, s a round": _middle(trials, "train_seconds", "{:.3g}"),
                "evaluation, s a round": _middle(trials, "evaluation_seconds", "{:.3g}"),
            }
        )
    head = [name for name in (rows[0] if rows else {}) if any(row[name] != "-" for row in rows)]
    return head, [[row[name] for name in head] for row in rows]


def _parameters(trials: Sequence[TrialRecord]) -> str:
    """Of the smallest and the largest trial."""
    found = finite([row.get("trainable_parameters") for one in trials for row in one.history])
    if not found:
        return "-"
    low, high = min(found), max(found)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _middle(trials: Sequence[TrialRecord], metric: str, form: str) -> str:
    """The median over all rounds."""
    found = finite([row.get(metric) for one in trials for row in one.history])
    return form.format(median(found)) if found else "-"


def cost(run: Run) -> list[str]:
    """What the sweep took. A trial's seconds are its own (`trial.Trial`); as several run at once on several cores or
    devices, they may add up to more than the sweep's."""
    ends = finite([row.get("at") for one in run.records for row in one.history])
    total = finite([run.end.get("seconds")])
    trained = finite([one.seconds for one in run.records])
    found = [f"{len(run.records)} trials", f"{sum(one.rounds for one in run.records)} rounds"]
    if total and total[0] > 0:
        found += [f"{total[0]:,.0f} seconds in all", f"{60 * len(run.records) / total[0]:,.1f} trials per minute"]
    if sum(trained):
        found.append(f"{sum(trained) / len(trained):,.1f} seconds per trial")
    for dollars in finite([run.end.get("dollars")]):
        found.append(f"{dollars:,.2f} dollars, {dollars / max(1, len(run.records)):,.3f} per trial")
    if ends:
        found.append(f"last round ended {datetime.fromtimestamp(max(ends), UTC):%Y-%m-%d %H:%M} UTC")
    return found


def made(run: Run) -> dict[str, str]:
    """How to make it again: the command, the code, the data, the libraries."""
    sweep, facts = run.facts.get("sweep", {}), run.facts
    found = {
        "command": shlex.join(map(str, facts.get("command", []))),
        "bases": ", ".join(dict.fromkeys(pair["base"] for pair in sweep.get("pairs", []) if pair["base"] != "none")),
        "tasks": ", ".join(dict.fromkeys(pair["task"]["name"] for pair in sweep.get("pairs", []))),
        "search": f"{sweep['search']}, seed {sweep.get('seed')}" if "search" in sweep else "",
        "commit": facts.get("commit", ""),
        "data": ", ".join(f"{task} {digest}" for task, digest in facts.get("data_fingerprints", {}).items()),
        "python": facts.get("python", ""),
    }
    found |= {name: str(number) for name, number in facts.get("versions", {}).items()}
    return {name: text for name, text in found.items() if text}
