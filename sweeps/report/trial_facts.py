"""What the page says of a trial where the pointer is on it, or where it is selected."""

from __future__ import annotations

from typing import Any

from sweeps.report.chart_style import short
from sweeps.report.headline import trial_title
from sweeps.report.searched_axes import axis_groups
from sweeps.results.leaderboard import percent, rank, span, status_words
from sweeps.results.run_folder import Run

GOING_ON = ("running", "paused")


def trial_facts(run: Run) -> dict[str, dict[str, Any]]:
    """Return trial number -> `title`, `facts` (pairs of texts), and the `values` of its searched axes as texts.

    `runs` says whether it can be stopped, and `clones` whether it has rounds left for a clone.
    """
    groups = axis_groups(run)
    rounds = run.facts.get("sweep", {}).get("rounds", 0)
    found = {}
    for row in rank(run.records):
        one = row.record
        values = {axis: value for group in groups for axis, value in group.values.get(one.trial_id, {}).items()}
        score = f"{percent(row.record.score)} ({span(row.interval)})" if row.interval else percent(one.score)
        facts = [("search score", score), ("rounds", str(one.rounds)), ("status", status_words(one))]
        if row.rank:
            facts.insert(0, ("rank", str(row.rank)))
        own = {axis: value for axis, value in values.items() if axis in one.params.fields}
        found[str(one.number)] = {
            "title": trial_title(run, one),
            "facts": facts + [(axis, short(value)) for axis, value in own.items()],
            "values": {axis: str(value) for axis, value in own.items()},
            "runs": one.status in GOING_ON,
            "clones": one.rounds < rounds,
        }
    return found
