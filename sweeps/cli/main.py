"""The entry points: `main` runs a sweep script, `console` is the `espalier` command."""

from __future__ import annotations

from sweeps.resources.environment import check_environment, keep_ray_on_loopback, quieten
from sweeps.resources.home import settle_home

quieten()  # before anything imports Ray, MLflow or the hub
check_environment()  # and fails for it; an error is printed in one line here, too
NO_HOME = settle_home()

import contextlib  # noqa: E402
import dataclasses  # noqa: E402
import functools  # noqa: E402
import inspect  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import tyro  # noqa: E402

from search_spaces.axis import SpaceError  # noqa: E402
from sweeps.cli.ending import end, one_line_errors  # noqa: E402
from sweeps.cli.flags import Flags, as_words, parse, read  # noqa: E402
from sweeps.cli.output import lasting_output  # noqa: E402
from sweeps.cli.tyro_support import parse_with  # noqa: E402
from sweeps.persistence.interrupt import heed_signals  # noqa: E402
from sweeps.results.terminal import print, print_json  # noqa: E402
from sweeps.spec.addresses import check_command_line, check_hub_address  # noqa: E402
from sweeps.spec.chain import Chain  # noqa: E402
from sweeps.spec.error_policy import Ended, SweepEnd  # noqa: E402
from sweeps.spec.fit_to_bases import fitted  # noqa: E402
from sweeps.spec.sweep import Sweep  # noqa: E402
from sweeps.spec.trust import apply_trust  # noqa: E402
from trainables.bad_input import BadInput  # noqa: E402

if TYPE_CHECKING:  # it imports pandas, and bad input is refused before
    from sweeps.commands.result import Result


def main(sweep: Sweep | Chain, argv: list[str] | None = None) -> None:
    """Run a sweep script. Bad input ends with one line on standard error and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    heed_signals()
    with lasting_output(), one_line_errors():
        _begin(argv)
        end(_main(sweep, argv, Path(sys.argv[0])).ended)


def run(sweep: Sweep | Chain, **flags: Any) -> Result:
    """Run a sweep from Python as its script would, and return its result; of a chain that of its last phase. Raises
    BadInput.

    `flags` are a script's, with `_` for `-`: `num_samples=4, set=["r=8"], report=False`.
    """
    from sweeps.commands.result import Result

    if given := [name for name in ("cluster", "plan") if flags.get(name)]:
        raise BadInput(f"{given[0]}=...:", "leaves no result in this process", "give it to a script")
    argv = as_words(flags)
    _begin(argv)
    ended, folder = _main(sweep, argv, Path(sys.argv[0]))
    return Result(folder or Path(), ended)


def _begin(argv: list[str]) -> None:
    """Tell which home is used, and check what surrounds a command. Raises BadInput."""
    if NO_HOME:
        print(f"warning: {NO_HOME}", file=sys.stderr)
    check_command_line(argv)
    check_hub_address()


def _main(given: Sweep | Chain, argv: list[str], script: Path) -> SweepEnd:
    """Do what the flags ask for. Raises BadInput."""
    if isinstance(given, Sweep):
        flags, sweep = parse(given, argv)
        if flags.phase:
            raise BadInput(f"--phase {flags.phase[0]}:", f"{given.name} has no phases", "leave --phase out")
        sweeps = [sweep]
    else:
        from sweeps.cli.chain_runner import phase_sweeps

        flags, task = read(given.first, argv, given.phases)
        sweeps = phase_sweeps(given, flags, task)
    keep_ray_on_loopback(flags.address)
    apply_trust(flags.trust, [pair for sweep in sweeps for pair in sweep.pairs])
    sweeps = [fitted(sweep) for sweep in sweeps]
    if flags.like is not None:
        sweeps = [_like(sweep, flags.like) for sweep in sweeps]
    if flags.json and not flags.plan:
        raise BadInput("--json", "is what --plan prints", "add --plan, or ask a sweep with `espalier status --json`")
    if flags.plan:
        return SweepEnd(_plan(sweeps, flags, argv))
    if flags.cluster is not None:
        return SweepEnd(_submit(given.name, sweeps, flags, flags.cluster, script, argv))
    if isinstance(given, Chain):
        from sweeps.cli.chain_runner import run_chain

        return run_chain(given, sweeps, flags, script, argv)
    from sweeps.tuning.session import session

    return session(sweeps[0], flags, script, argv)


def _plan(sweeps: list[Sweep], flags: Flags, argv: list[str]) -> Ended:
    """Print what the sweeps would cost; with --json as JSON, and the text on standard error."""
    if not flags.json:
        _estimate(sweeps, flags, argv)
        return "finished"
    with contextlib.redirect_stdout(sys.stderr):
        facts = _estimate(sweeps, flags, argv)
    print_json("plan", facts)
    return "finished"


def _estimate(sweeps: list[Sweep], flags: Flags, argv: list[str]) -> dict[str, Any]:
    """Print and return what the sweeps would cost. All checks of the input come before the first measurement."""
    from sweeps.tuning.estimate import plan
    from sweeps.tuning.session import check

    remarks = [check(sweep, flags.allow) for sweep in sweeps]
    rates = None
    if flags.cluster is not None:
        from sweeps.resources.ray_job import hourly

        rates = hourly(flags.cluster)
        price = "{:.2f} dollars an hour for the head alone, {:.2f} with all workers".format(*rates) if rates else ""
        print(f"{flags.cluster}: {price or 'machines without a price'}", flush=True)
    found = []
    for sweep, own in zip(sweeps, remarks, strict=True):
        share = sweep.minutes and sweep.minutes / len(sweeps)  # phases share the time
        found.append(plan(dataclasses.replace(sweep, minutes=share), argv, flags.mirror is not None))
        print("\n".join(own))
    hours = sum(one.hours for one in found)
    dollars = hours * rates[0] if rates else None
    if dollars is not None:
        print(f"expected: {dollars:.2f} dollars, if a pod of {flags.cluster} does in an hour what this machine does")
    plans = [dataclasses.asdict(one) | {"remarks": own} for one, own in zip(found, remarks, strict=True)]
    return {"sweeps": plans, "hours": hours, "dollars": dollars}


def _submit(name: str, sweeps: list[Sweep], flags: Flags, cluster: Path, script: Path, argv: list[str]) -> Ended:
    """Start the script as a job on a cluster, and watch it."""
    if flags.like is not None or flags.address is not None:
        raise BadInput("--cluster", "goes with neither --like nor --address", "on the head they work")
    if flags.resume and flags.name is None:
        raise BadInput("--cluster with --resume", "needs the --name that the sweep was given")
    from sweeps.resources.ray_job import submit
    from sweeps.tuning.session import check

    for sweep in sweeps:
        check(sweep, flags.allow)
    name = flags.name or f"{name}-{time.strftime('%m%d-%H%M%S')}"
    return submit(name, cluster, flags.storage_path, script, argv)


def _like(sweep: Sweep, folder: Path) -> Sweep:
    """Return the sweep with the space and the first trials of `--like`, and print them. Raises BadInput."""
    from sweeps.spec.open_run import open_run
    from sweeps.spec.warm_start import in_words, like

    run = open_run(folder)
    try:
        narrowed, first = like(sweep, run)
    except SpaceError as error:
        raise BadInput(f"--like {folder}:", str(error)) from error
    print("\n".join(in_words(sweep, narrowed, first, run)), flush=True)
    return dataclasses.replace(narrowed, first=tuple(first))


def console() -> None:
    """Run the `espalier` command, which works on the folders of sweeps and on this installation."""
    heed_signals()
    with lasting_output(), one_line_errors():
        _begin(sys.argv[1:])
        if sys.argv[1:] in (["doctor"], ["doctor", "--json"]):  # it must run even if imports of the others fail
            from sweeps.cli.doctor import doctor

            doctor(json="--json" in sys.argv)
            return
        later = {name: _later(command) for name, command in commands().items()}
        end(parse_with(tyro.extras.subcommand_cli_from_dict, later, prog="espalier")())


def commands() -> dict[str, Callable[..., Ended | None]]:
    """Return the commands of `espalier` by name, as functions whose parameters are their flags."""
    from sweeps.cli.doctor import doctor
    from sweeps.commands.attribute import attribute
    from sweeps.commands.chat import chat
    from sweeps.commands.clean import clean
    from sweeps.commands.compare import compare
    from sweeps.commands.decide import decide
    from sweeps.commands.evaluation.command import evaluate
    from sweeps.commands.export import export
    from sweeps.commands.judging.command import judge
    from sweeps.commands.proposing import ask, propose
    from sweeps.commands.rationales.command import rationales
    from sweeps.commands.reproduce import reproduce
    from sweeps.commands.steering import clone, leaderboard, report, status, stop
    from sweeps.commands.ui.command import ui

    steer: dict[str, Any] = {"status": status, "stop": stop, "clone": clone, "report": report, "doctor": doctor}
    verbs = steer | {
        "leaderboard": leaderboard,
        "reproduce": reproduce,
        "export": export,
        "rationales": rationales,
        "ui": ui,
    }
    verbs |= {"attribute": attribute, "judge": judge, "decide": decide, "chat": chat, "evaluate": evaluate}
    return verbs | {"propose": propose, "ask": ask, "compare": compare, "clean": clean, "version": _version}


def _later(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command bound to its arguments, for a call after parsing: the parser would catch its output."""

    @functools.wraps(verb)
    def bound(*values: Any, **named: Any) -> Callable[[], Any]:
        def call() -> Any:
            if "run" in (signature := inspect.signature(verb)).parameters:
                _close_left_open(signature.bind(*values, **named).arguments.get("run"))
            return verb(*values, **named)

        return call

    return bound


def _close_left_open(run: Path | None) -> None:
    """Close the runs that a killed driver of a sweep has left open in MLflow, before a command looks at its folder."""
    from sweeps.commands.which_sweep import latest
    from sweeps.spec.open_run import open_run
    from sweeps.tracking.left_open import close_left_open

    try:
        folder = open_run(run or latest()).folder
    except BadInput:  # the command itself says so
        return
    close_left_open(folder)


def _version() -> None:
    """Print the installed version."""
    from importlib.metadata import version

    print(version("espalier"))
