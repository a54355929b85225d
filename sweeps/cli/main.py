"""What happens when a sweep script is run, and the verbs of `espalier`."""

from __future__ import annotations

from sweeps.cli.environment import quieten

quieten()  # before anything imports Ray, MLflow or the hub

import contextlib  # noqa: E402
import dataclasses  # noqa: E402
import functools  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import tyro  # noqa: E402

from search_spaces.axis import SpaceError  # noqa: E402
from sweeps.cli.flags import Flags, parse, read  # noqa: E402
from sweeps.cli.tyro_support import asked  # noqa: E402
from sweeps.persistence.interrupt import at_once  # noqa: E402
from sweeps.spec.sweep import BadInput, Sweep  # noqa: E402

if TYPE_CHECKING:
    from sweeps.tuning.chain import Chain

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def main(sweep: Sweep | Chain, argv: list[str] | None = None) -> None:
    """Run a sweep script. Bad input ends with one line on standard error and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    with one_line_errors():
        ended = _main(sweep, argv, Path(sys.argv[0]))
    if ended == "interrupted":
        at_once()
        sys.exit(EXIT_INTERRUPTED)
    if ended == "failed":
        sys.exit(EXIT_FAILED)


def _main(given: Sweep | Chain, argv: list[str], script: Path) -> str:
    """How it ended. Raises BadInput."""
    if isinstance(given, Sweep):
        flags, sweep = parse(given, argv)
        if flags.phase:
            raise BadInput(f"--phase {flags.phase[0]}: {given.name} has no phases; leave --phase out")
        sweeps = [sweep]
    else:
        from sweeps.tuning.chain import parsed, run_chain

        flags, task = read(given.first, argv, given.phases)
        sweeps = parsed(given, flags, task)
    if flags.like is not None:
        sweeps = [_like(sweep, flags.like) for sweep in sweeps]
    if flags.plan:
        return _plan(sweeps, flags)
    if flags.cluster is not None:
        return _submit(given.name, sweeps, flags, flags.cluster, script, argv)
    if not isinstance(given, Sweep):
        return run_chain(given, sweeps, flags, script, argv)
    from sweeps.tuning.session import session

    return session(sweeps[0], flags, script, argv)


def _plan(sweeps: list[Sweep], flags: Flags) -> str:
    """Print what they would cost. Whatever can be refused is, before anything is measured."""
    from sweeps.tuning.estimate import plan
    from sweeps.tuning.session import check

    remarks = [check(sweep, flags.allow) for sweep in sweeps]
    rates = None
    if flags.cluster is not None:
        from sweeps.resources.ray_job import hourly

        rates = hourly(flags.cluster)
        told = "{:.2f} dollars an hour for the head alone, {:.2f} with all workers".format(*rates) if rates else ""
        print(f"{flags.cluster}: {told or 'machines without a price'}", flush=True)
    hours = 0.0
    for sweep, own in zip(sweeps, remarks, strict=True):
        hours += plan(sweep)
        print("\n".join(own))
    if rates:
        expected = hours * rates[0]
        print(f"expected: {expected:.2f} dollars, if a pod of {flags.cluster} does in an hour what this machine does")
    return "finished"


def _submit(name: str, sweeps: list[Sweep], flags: Flags, cluster: Path, script: Path, argv: list[str]) -> str:
    """Run on a cluster, and watch."""
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
    """The sweep with what an earlier one found; says what that is. Raises BadInput where there is nothing to take."""
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
    """Bad input and Ctrl-C are told in one line, without a traceback. Anything else is our fault and keeps its own."""
    try:
        yield
    except BadInput as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt as stop:
        at_once()
        print(f"\n{Path(sys.argv[0]).name}: {'; '.join(filter(None, ['interrupted', str(stop)]))}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def console() -> None:
    """The `espalier` command: what can be done with the folder that a sweep leaves, and with this installation."""
    with one_line_errors():
        from sweeps.cli.doctor import doctor

        if sys.argv[1:] == ["doctor"]:  # where the imports below may fail, too
            doctor()
            return
        from sweeps.commands.attribute import attribute
        from sweeps.commands.export import export
        from sweeps.commands.judging.command import judge
        from sweeps.commands.rationales.command import rationales
        from sweeps.commands.reproduce import reproduce
        from sweeps.commands.steering import clone, report, status, stop
        from sweeps.tracking.mlflow_store import serve_ui

        steer: dict[str, Any] = {"status": status, "stop": stop, "clone": clone, "report": report, "doctor": doctor}
        verbs = steer | {"reproduce": reproduce, "export": export, "rationales": rationales, "ui": serve_ui}
        verbs |= {"attribute": attribute, "judge": judge, "version": _version}
        later = {name: _later(verb) for name, verb in verbs.items()}
        asked(tyro.extras.subcommand_cli_from_dict, later, prog="espalier")()


def _later(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with its arguments, not called yet: what it says and how it ends is its own, and not the parser's."""

    @functools.wraps(verb)
    def bound(*values: Any, **named: Any) -> Callable[[], Any]:
        return functools.partial(verb, *values, **named)

    return bound


def _version() -> None:
    """Print the installed version."""
    from importlib.metadata import version

    print(version("espalier"))
