"""The entry points: `main` runs a sweep script, `console` is the `espalier` command."""

from __future__ import annotations

from sweeps.resources.environment import keep_ray_on_loopback, quieten

quieten()  # before anything imports Ray, MLflow or the hub

import contextlib  # noqa: E402
import dataclasses  # noqa: E402
import functools  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import tyro  # noqa: E402

from search_spaces.axis import SpaceError  # noqa: E402
from sweeps.cli.flags import Flags, parse, read  # noqa: E402
from sweeps.cli.tyro_support import parse_with  # noqa: E402
from sweeps.persistence.interrupt import ignore_interrupts  # noqa: E402
from sweeps.results.run_schema import UnreadableRun  # noqa: E402
from sweeps.results.terminal import print  # noqa: E402
from sweeps.spec.addresses import check_command_line, check_hub_address  # noqa: E402
from sweeps.spec.chain import Chain  # noqa: E402
from sweeps.spec.exit_codes import BAD_INPUT_STATUS, EXIT_STATUS, Ended  # noqa: E402
from sweeps.spec.fit_to_bases import fitted  # noqa: E402
from sweeps.spec.sweep import BadInput, Sweep  # noqa: E402
from sweeps.spec.trust import apply_trust  # noqa: E402


def main(sweep: Sweep | Chain, argv: list[str] | None = None) -> None:
    """Run a sweep script. Bad input ends with one line on standard error and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    with one_line_errors():
        check_command_line(argv)
        check_hub_address()
        ended = _main(sweep, argv, Path(sys.argv[0]))
    if ended == "interrupted":
        ignore_interrupts()
    if EXIT_STATUS[ended]:
        sys.exit(EXIT_STATUS[ended])


def _main(given: Sweep | Chain, argv: list[str], script: Path) -> Ended:
    """Do what the flags ask for, and return how it ended. Raises BadInput."""
    if isinstance(given, Sweep):
        flags, sweep = parse(given, argv)
        if flags.phase:
            raise BadInput(f"--phase {flags.phase[0]}: {given.name} has no phases; leave --phase out")
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
    if flags.plan:
        return _plan(sweeps, flags, argv)
    if flags.cluster is not None:
        return _submit(given.name, sweeps, flags, flags.cluster, script, argv)
    if isinstance(given, Chain):
        from sweeps.cli.chain_runner import run_chain

        return run_chain(given, sweeps, flags, script, argv)
    from sweeps.tuning.session import session

    return session(sweeps[0], flags, script, argv)


def _plan(sweeps: list[Sweep], flags: Flags, argv: list[str]) -> Ended:
    """Print what the sweeps would cost. All checks of the input come before the first measurement."""
    from sweeps.tuning.estimate import plan
    from sweeps.tuning.session import check

    remarks = [check(sweep, flags.allow) for sweep in sweeps]
    rates = None
    if flags.cluster is not None:
        from sweeps.resources.ray_job import hourly

        rates = hourly(flags.cluster)
        price = "{:.2f} dollars an hour for the head alone, {:.2f} with all workers".format(*rates) if rates else ""
        print(f"{flags.cluster}: {price or 'machines without a price'}", flush=True)
    hours = 0.0
    for sweep, own in zip(sweeps, remarks, strict=True):
        share = sweep.minutes and sweep.minutes / len(sweeps)  # phases share the time
        hours += plan(dataclasses.replace(sweep, minutes=share), argv, flags.mirror is not None)
        print("\n".join(own))
    if rates:
        expected = hours * rates[0]
        print(f"expected: {expected:.2f} dollars, if a pod of {flags.cluster} does in an hour what this machine does")
    return "finished"


def _submit(name: str, sweeps: list[Sweep], flags: Flags, cluster: Path, script: Path, argv: list[str]) -> Ended:
    """Start the script as a job on a cluster, and watch it."""
    if flags.like is not None or flags.address is not None:
        raise BadInput("--cluster goes with neither --like nor --address; on the head they work")
    if flags.resume and flags.name is None:
        raise BadInput("--cluster with --resume needs the --name that the sweep was given")
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
        raise BadInput(f"--like {folder}: {error}") from error
    print("\n".join(in_words(sweep, narrowed, first, run)), flush=True)
    return dataclasses.replace(narrowed, first=tuple(first))


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one line and an exit status for bad input and Ctrl-C. Other exceptions keep their traceback."""
    try:
        yield
    except (BadInput, UnreadableRun) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT_STATUS)
    except KeyboardInterrupt as stop:
        ignore_interrupts()
        print(f"\n{Path(sys.argv[0]).name}: {'; '.join(filter(None, ['interrupted', str(stop)]))}", file=sys.stderr)
        sys.exit(EXIT_STATUS["interrupted"])


def console() -> None:
    """Run the `espalier` command, which works on the folders of sweeps and on this installation."""
    with one_line_errors():
        check_command_line(sys.argv[1:])
        check_hub_address()
        from sweeps.cli.doctor import doctor

        if sys.argv[1:] == ["doctor"]:  # it must run even if the imports below fail
            doctor()
            return
        from sweeps.commands.attribute import attribute
        from sweeps.commands.chat import chat
        from sweeps.commands.decide import decide
        from sweeps.commands.evaluation.command import evaluate
        from sweeps.commands.export import export
        from sweeps.commands.judging.command import judge
        from sweeps.commands.rationales.command import rationales
        from sweeps.commands.reproduce import reproduce
        from sweeps.commands.steering import clone, report, status, stop
        from sweeps.tracking.mlflow_store import serve_ui

        steer: dict[str, Any] = {"status": status, "stop": stop, "clone": clone, "report": report, "doctor": doctor}
        verbs = steer | {"reproduce": reproduce, "export": export, "rationales": rationales, "ui": serve_ui}
        verbs |= {
            "attribute": attribute,
            "judge": judge,
            "decide": decide,
            "chat": chat,
            "evaluate": evaluate,
            "version": _version,
        }
        later = {name: _later(verb) for name, verb in verbs.items()}
        parse_with(tyro.extras.subcommand_cli_from_dict, later, prog="espalier")()


def _later(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command bound to its arguments, for a call after parsing: the parser would catch its output."""

    @functools.wraps(verb)
    def bound(*values: Any, **named: Any) -> Callable[[], Any]:
        return functools.partial(verb, *values, **named)

    return bound


def _version() -> None:
    """Print the installed version."""
    from importlib.metadata import version

    print(version("espalier"))
