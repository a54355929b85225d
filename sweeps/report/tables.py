"""The small tables of the report: what training gained for each learner, what it cost, and how to reproduce it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from sweeps.report.chart_style import finite
from sweeps.results.finals import counted
from sweeps.results.gain import gain
from sweeps.results.leaderboard import percent
from sweeps.results.records import TrialRecord, by_score
from sweeps.results.run_folder import DATABASE, Run
from trainables.models.gguf import without_hash


def learner_comparison(run: Run) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table, a row per learner and base. Empty columns are left out.

    Tokens per second and seconds count a trial's own work; in a packed seat, its share of the host's time.
    """
    rows = []
    finals = {one.trial_id: one for one in reversed(run.finals) if one.trial_id}
    for pair in run.facts.get("sweep", {}).get("pairs", []):
        learner, label = pair["learner"]["name"], pair.get("label", "")
        trials = [one for one in run.records if (one.learner, one.params.base) == (learner, label)]
        if not trials:
            continue
        best = next(iter(by_score(trials)), None)
        before = run.end.get("untouched", {}).get(trials[0].pair, {})
        gained = gain(best.score if best else None, before)
        tested = [finals[one.trial_id].score for one in trials if one.trial_id in finals]
        rows.append(
            {
                "learner": learner,
                "base": "-" if pair["base"] == "none" else without_hash(pair["base"]),
                "trials": str(len(trials)),
                "untouched": percent(next(iter(finite([before.get("score")])), None)),
                "best in search": f"{percent(best.score)} (trial {best.number})" if best else "-",
                "gain, points": f"{gained.total:+.1f}" if gained else "-",
                "gain from format": f"{gained.form:+.1f}" if gained and gained.total >= 0 else "-",
                "gain from skill": f"{gained.skill:+.1f}" if gained and gained.total >= 0 else "-",
                "best on test": percent(max(tested, default=None)),
                "trained parameters": _parameters(trials),
                "training tokens per second": _median(trials, "tokens_per_second", "{:,.0f}"),
                "peak memory, MiB": _median(trials, "peak_memory_mib", "{:,.0f}"),
                "training, s per round": _median(trials, "train_seconds", "{:.3g}"),
                "evaluation, s per round": _median(trials, "evaluation_seconds", "{:.3g}"),
            }
        )
    head = [name for name in (rows[0] if rows else {}) if any(row[name] != "-" for row in rows)]
    return head, [[row[name] for name in head] for row in rows]


def _parameters(trials: Sequence[TrialRecord]) -> str:
    """Return the number of trained parameters, or its range over the trials."""
    found = finite([row.get("trainable_parameters") for one in trials for row in one.history])
    if not found:
        return "-"
    low, high = min(found), max(found)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _median(trials: Sequence[TrialRecord], metric: str, form: str) -> str:
    """Return the median of a metric over all rounds of all trials."""
    found = finite([row.get(metric) for one in trials for row in one.history])
    return form.format(median(found)) if found else "-"


def cost(run: Run) -> list[str]:
    """Return the cost of the sweep: trials, rounds, seconds, dollars.

    Seconds per trial count a trial's own work. Trials may run in parallel, so their sum may exceed the sweep's time.
    """
    ends = finite([row.get("at") for one in run.records for row in one.history])
    total = finite([run.end.get("seconds")])
    trained = finite([one.seconds for one in run.records])
    found = [counted(len(run.records), "trial"), counted(sum(one.rounds for one in run.records), "round")]
    if total and total[0] > 0:
        found += [f"{total[0]:,.0f} seconds in total", f"{60 * len(run.records) / total[0]:,.1f} trials per minute"]
    if sum(trained):
        found.append(f"{sum(trained) / len(trained):,.1f} seconds per trial")
    for dollars in finite([run.end.get("dollars")]):
        found.append(f"{dollars:,.2f} dollars, {dollars / max(1, len(run.records)):,.3f} per trial")
    if ends:
        found.append(f"last round ended {datetime.fromtimestamp(max(ends), UTC):%Y-%m-%d %H:%M} UTC")
    return found


def provenance(run: Run) -> dict[str, str]:
    """Return what is needed to reproduce the sweep (command, code, data, libraries), and how to look at its search."""
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
    if (run.folder / DATABASE).is_file():
        address = f"sqlite:///{run.folder / DATABASE}"
        found["the search in Optuna's dashboard"] = shlex.join(["optuna-dashboard", address])
    return {name: text for name, text in found.items() if text}
