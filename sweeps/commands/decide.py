"""`espalier decide`: train and ask the finalists of a finished sweep further, to settle what is open."""

from __future__ import annotations

import contextlib
import math
import shlex
from functools import partial
from pathlib import Path

from sweeps.commands.reproduce import check_data
from sweeps.commands.which_sweep import latest
from sweeps.persistence.interrupt import explain_resume, was_asked_to_end
from sweeps.persistence.lock import driving
from sweeps.resources.placement import with_devices
from sweeps.results.comparison import LEVEL
from sweeps.results.confirmation import Confirmation, Spending
from sweeps.results.decision import Budget
from sweeps.results.finals import print_finals
from sweeps.results.records import is_untouched
from sweeps.results.run_folder import Run
from sweeps.results.terminal import print
from sweeps.spec.deserialize import rebuild
from sweeps.spec.error_policy import Ended
from sweeps.spec.open_run import check_no_links, open_run
from sweeps.spec.trust import apply_trust, refuse_user_code
from trainables.bad_input import BadInput

SPENDS = 0.8  # share of the error rate that is left


def decide(
    run: Path | None = None, /, minutes: float = 10.0, address: str | None = None, trust: tuple[str, ...] = ()
) -> Ended | None:
    """Give the finalists of a sweep more seeds and questions, where they may change its verdict.

    It stops when a winner is told apart. The error rates of the verdict hold for the sweep and this together.

    Args:
        run: the sweep's folder; none: the latest in runs/
        minutes: how long it may take
        address: a running Ray cluster; none: start Ray on this machine
        trust: files or modules with learners and tasks that are not Espalier's; folder: the base may run its own code
    """
    apply_trust(trust)
    left = open_run(run or latest())
    check_no_links(left.folder)
    spending = _open_question(left, minutes)
    from sweeps.report.page import write_report
    from sweeps.tracking.mlflow_callback import MLflowTracking
    from sweeps.tuning.confirmation import Finalists, go_on
    from sweeps.tuning.recorder import Recorder
    from sweeps.tuning.runner import record_finalists, start_places
    from sweeps.tuning.session import connect
    from sweeps.tuning.summary import program_path

    known = left.confirmation
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(driving(left.folder))
        sweep = rebuild(left.facts)
        for task in sweep.tasks():
            refuse_user_code(task)
            check_data(left, task)
        capacity = connect(sweep, address, cleanup)
        sweep = with_devices(sweep, capacity.gpus)
        _, _, places = start_places(sweep, capacity, cleanup)
        finalists = Finalists.of_run(left, sweep, places)
        recorder = Recorder(left.folder, sweep, left.end.get("baselines", {}), left.facts.get("guards", ()))
        recorder.records = {one.trial_id: one for one in left.records}
        again = shlex.join([program_path("espalier"), "decide", str(left.folder), "--minutes", f"{minutes:g}"])
        cleanup.enter_context(explain_resume(again, left.folder))
        tracking = cleanup.enter_context(MLflowTracking.for_sweep(sweep, left.facts, left.folder).closing())
        only_once = [name for name, most in spending.costs.most_seeds.items() if most == 1 and not is_untouched(name)]
        record = partial(record_finalists, tracking, recorder, finalists)
        found = go_on(finalists, known, budget_of(known, spending, minutes), only_once, record)
    print_finals(found or known, left.earlier_looks)
    if found is None or len(found.looks) == len(known.looks):
        least = min(spending.costs.train.values()) / 60
        print(f"nothing was added: one more training takes about {least:.1f} minutes, and --minutes is {minutes:g}")
    print(f"report: {write_report(left.folder)}")
    return "interrupted" if was_asked_to_end() else None


def budget_of(known: Confirmation, spending: Spending, minutes: float) -> Budget:
    """Return the budget of so many more minutes, with most of the error rate that is left."""
    last = known.looks[-1]
    rate = last.rate + SPENDS * (known.level - last.rate)
    return Budget(spending.seconds + 60 * minutes, rate, spending.seconds, last)


def _open_question(left: Run, minutes: float) -> Spending:
    """Return what more would cost. Raises BadInput if nothing is open, or nothing is known."""
    known = left.confirmation
    if not 0 < minutes < math.inf:
        raise BadInput(f"--minutes {minutes:g}", "must be a number above 0")
    if not known.finals:
        raise BadInput(left.folder, "has no finalists", "finish the sweep first, with --resume if it was interrupted")
    if known.spending is None or not known.looks:
        raise BadInput(left.folder, "has finalists of an earlier version, with fixed seeds", "start a new sweep")
    if known.independent:
        remedy = "only a sweep with a larger test split can"
        raise BadInput(f"{left.folder}:", "more seeds decide nothing, as each question has a model of its own", remedy)
    if all(one.alone < LEVEL for one in known.comparisons()):
        raise BadInput(left.folder, f"is decided: {known.finals[0].name} is better than all others")
    return known.spending
