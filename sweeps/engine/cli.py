"""The flags that every sweep shares, and what happens when one is run: check, run, show, say how to go on."""

from __future__ import annotations

from sweeps.engine.quiet import quieten

quieten()  # before anything imports Ray, MLflow or the hub

import contextlib  # noqa: E402
import dataclasses  # noqa: E402
import io  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Annotated, Any, Literal  # noqa: E402

import tyro  # noqa: E402
import yaml  # noqa: E402

from search_spaces.axis import SpaceError  # noqa: E402
from search_spaces.models import fit  # noqa: E402
from sweeps.engine.sweep import BadInput, Sweep  # noqa: E402
from trainables.guards import Guard  # noqa: E402

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one trial takes."""

    cpu: float | None = None  # cores
    gpu: float | None = None  # devices; a fraction shares one


@dataclasses.dataclass(frozen=True)
class Flags:
    """Empty values keep what the sweep's script says."""

    base: str | None = None  # builtin:tiny, a hub name or a folder; options after colons, as in NAME:nf4
    learner: tuple[str, ...] = ()  # only these learners
    num_samples: int | None = None  # trials
    rounds: int | None = None  # rounds of a trial that is not stopped early
    grace_period: int | None = None  # rounds before ASHA may stop a trial
    max_concurrent_trials: int | None = None  # trials side by side
    resources: Resources = dataclasses.field(default_factory=Resources)
    num_workers: int | None = None  # processes that train one trial together (Ray Train); default: one per GPU of it
    parallel_strategy: Literal["auto", "ddp", "fsdp"] | None = None  # of theirs; auto: fsdp where the base does not fit
    finalists: int | None = None  # of the best, trained again and scored on the test split; 0: none
    seats: int | Literal["auto"] | None = None  # trials that share one base; 1: each loads its own
    hosts: int | Literal["auto"] | None = None  # processes that hold the base, each with its seats
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="AXIS=VALUE")] = ()  # fix axes instead of searching them
    allow: tuple[Guard, ...] = ()  # guards that may not stop the sweep; what they found goes into its leaderboard
    objectives: tuple[str, ...] = ()  # score and others: trainable_parameters, seconds, loss; several switch ASHA off
    search: Literal["tpe", "random", "nsga2"] | None = None  # how configurations are suggested
    like: Path | None = (
        None  # a sweep's folder: its space, narrowed to what was good, and its best configurations first
    )
    seed: int | None = None  # of the search and of every trial
    name: str | None = None  # of the sweep and its folder; default: the script's, or the next free NAME-2, NAME-3 ...
    storage_path: Path = Path("runs")  # where the sweep's folder goes
    mirror: str | None = None  # s3://, gs://, file://: where a copy of its folder is kept current; --resume takes it
    address: str | None = None  # of a running Ray cluster (RAY_ADDRESS is respected too)
    cluster: Path | None = None  # a cluster's file: run there, watch here, and bring the sweep's folder home
    time_budget_s: float | None = None  # seconds after which no round is started
    max_cost: float | None = None  # dollars; no trial is started that would pass it, by the provider's own prices
    resume: bool = False  # go on with the sweep called --name, or with the latest
    report: bool = True  # write report.html and its plots at the end
    plan: bool = False  # print what it would cost, and start nothing
    verbose: bool = False  # Ray's own messages too


def main(sweep: Sweep, argv: list[str] | None = None) -> None:
    """Run a sweep script. Bad input ends with one line on standard error and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    with one_line_errors():
        flags, sweep = parse(sweep, argv)
        if flags.like is not None:
            sweep = _like(sweep, flags.like)
        from sweeps.engine.session import check, session

        if flags.plan:
            from sweeps.engine.plan import plan

            remarks = check(sweep, flags.allow)
            text, hours = plan(sweep)
            print("\n".join([text, *remarks]))
            if flags.cluster is not None:
                from sweeps.engine.remote import price_line

                print(price_line(flags.cluster, hours))
            return
        if flags.cluster is not None:
            if flags.like is not None or flags.address is not None:
                raise BadInput("--cluster goes with neither --like nor --address; on the head they work")
            if flags.resume and flags.name is None:
                raise BadInput("--cluster with --resume needs the --name that the sweep was given")
            from sweeps.engine.remote import submit

            check(sweep, flags.allow)
            name = flags.name or f"{sweep.name}-{time.strftime('%m%d-%H%M%S')}"
            ended: str = submit(name, flags.cluster, flags.storage_path, Path(sys.argv[0]), argv)
        else:
            ended = session(sweep, flags, Path(sys.argv[0]), argv)
    if ended == "interrupted":
        sys.exit(EXIT_INTERRUPTED)
    if ended == "failed":
        sys.exit(EXIT_FAILED)


def parse(sweep: Sweep, argv: list[str]) -> tuple[Flags, Sweep]:
    """Flags, and the sweep with them applied. `--task.FIELD` sets a field of the sweep's task."""
    task = sweep.pairs[0].task
    unprefixed = Annotated[Flags, tyro.conf.arg(name="")]
    every = dataclasses.make_dataclass(
        "Every", [("flags", unprefixed, Flags()), ("task", type(task), dataclasses.field(default=task))]
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given: Any = tyro.cli(every, args=argv, description=sys.modules["__main__"].__doc__)
        return given.flags, apply(sweep, given.flags, given.task)
    except SystemExit as end:
        if end.code == 0:  # --help
            raise
        raise BadInput(_unboxed(said.getvalue())) from end
    except ValueError as error:  # a task refuses its fields in one line, and knows nothing of flags
        raise BadInput(str(error)) from error


def apply(sweep: Sweep, flags: Flags, task: Any) -> Sweep:
    """The sweep that the flags ask for. Raises BadInput for a learner or axis that it does not have."""
    pairs = {pair.learner.name: pair for pair in (*sweep.pairs, *sweep.optional)}
    for name in flags.learner:
        if name not in pairs:
            raise BadInput(f"--learner {name}: this sweep's learners are {', '.join(pairs)}")
    chosen = [pairs[name] for name in flags.learner] or list(sweep.pairs)
    chosen = [dataclasses.replace(p, task=task) for p in chosen]
    if flags.base is not None:
        chosen = [dataclasses.replace(p, base=flags.base) if p.learner.needs_base else p for p in chosen]
    changes: dict[str, Any] = {"pairs": tuple(chosen), "optional": ()}
    plain = {f.name for f in dataclasses.fields(Sweep)} & {f.name for f in dataclasses.fields(Flags)}
    for name in plain:
        if getattr(flags, name) not in (None, ()):
            changes[name] = getattr(flags, name)
    if flags.objectives:
        changes["objectives"] = tuple(name for text in flags.objectives for name in text.split(","))
    if flags.rounds and flags.grace_period is None and sweep.grace_period:
        changes["grace_period"] = min(sweep.grace_period, flags.rounds)
    asked = {name: value for name, value in dataclasses.asdict(flags.resources).items() if value is not None}
    changes["resources_per_trial"] = {**sweep.resources_per_trial, **asked}
    changes["space"] = {pair.learner.name: fit(sweep.space_of(pair), pair.base) for pair in chosen}
    fixed = dict(_assignment(text) for text in flags.set)
    return dataclasses.replace(sweep, **changes).fix(fixed)


def _like(sweep: Sweep, folder: Path) -> Sweep:
    """The sweep with what an earlier one found; says what that is. Raises BadInput where there is nothing to take."""
    from sweeps.engine.like import in_words, like
    from sweeps.engine.reproduce import open_run

    run = open_run(folder)
    try:
        narrowed, first = like(sweep, run)
    except SpaceError as error:
        raise BadInput(f"--like {folder}: {error}") from error
    print("\n".join(in_words(sweep, narrowed, first, run)), flush=True)
    return dataclasses.replace(narrowed, first=tuple(first))


def _unboxed(text: str) -> str:
    """The parser's message without its frame, in one line."""
    lines = [line.strip("\u2502 \n") for line in text.splitlines() if line.startswith("\u2502")]
    return " ".join(line if line.strip("\u2500 ") else "-" for line in lines)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadInput(f"--set {text}: write AXIS=VALUE, for example --set learning_rate=0.003")
    return name, yaml.safe_load(value)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input is told in one line, without a traceback. Anything else is a fault of ours and keeps its traceback."""
    try:
        yield
    except BadInput as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def console() -> None:
    """The `espalier` command: what can be done with the folder that a sweep leaves, and with this installation."""
    with one_line_errors():
        from sweeps.engine.doctor import doctor

        if sys.argv[1:] == ["doctor"]:  # where the imports below may fail, too
            doctor()
            return
        from sweeps.engine.export import export
        from sweeps.engine.rationales import rationales
        from sweeps.engine.reproduce import reproduce
        from sweeps.engine.steering import clone, report, status, stop
        from sweeps.engine.store import serve_ui

        steer: dict[str, Any] = {"status": status, "stop": stop, "clone": clone, "report": report, "doctor": doctor}
        verbs = steer | {"reproduce": reproduce, "export": export, "rationales": rationales, "ui": serve_ui}
        verbs["version"] = _version
        tyro.extras.subcommand_cli_from_dict(verbs)


def _version() -> None:
    """Print the installed version."""
    from importlib.metadata import version

    print(version("espalier"))
