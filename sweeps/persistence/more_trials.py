"""`--resume --num-samples N`: N trials in all, for a sweep that has ended or was interrupted.

The trials that are added belong to the same study. If finalists were trained before, others are trained afterwards, a
further look at the test split (`tuning/second_look.py`). `sweep.yaml` keeps in `more_trials` how many trials there
were at each look that the search went on after.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from sweeps.results.run_folder import END_FILE, SWEEP_FILE, Run
from sweeps.spec.sweep import Sweep
from trainables.atomic import replace_file
from trainables.bad_input import BadInput

MAY_CHANGE = ("num_samples", "budget")  # where trials are added


def asks_for_more(sweep: Sweep, left: Run) -> bool:
    """Return whether a resumed sweep asks for more trials than it was begun with.

    Raises BadInput for no more than there are, in a sweep that has ended.
    """
    planned, there = left.facts["sweep"]["num_samples"], len(left.records)
    if sweep.num_samples == planned:
        return False
    if not left.end or left.end.get("interrupted"):
        return sweep.num_samples > planned
    if sweep.num_samples <= there:
        raise BadInput(
            f"--num-samples {sweep.num_samples}:",
            f"{left.folder} has {there} trials",
            f"give more than {there}, the number in all, or {planned} as before",
        )
    return True


def keep(left: Run, sweep: Sweep, command: Sequence[str]) -> None:
    """Write that a sweep gets more trials, and is no longer at its end. How many there were at a look is kept once."""
    looks = list(left.facts.get("more_trials", []))[: left.confirmation.look - 1]
    if left.confirmation.finals:
        looks.append(len(left.records))
    changed = {name: getattr(sweep, name) for name in (*MAY_CHANGE, "all_trials")}
    facts = dict(left.facts) | {"sweep": left.facts["sweep"] | changed, "command": [*command], "more_trials": looks}
    if "design" in facts:  # of a sweep with --minutes
        facts["design"] = facts["design"] | dict.fromkeys(("num_samples", "trials"), sweep.num_samples)
    for file, plain in ((SWEEP_FILE, facts), (END_FILE, dict(left.end) | {"interrupted": True})):
        replace_file(left.folder / file, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode())
