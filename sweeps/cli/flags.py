"""The flags that every sweep script shares, and how they change its sweep."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from search_spaces.axis import SpaceError
from search_spaces.models import fit
from sweeps.cli.tyro_support import parse_with
from sweeps.spec.base_labels import base_labels
from sweeps.spec.config_fields import fields_of, read_value
from sweeps.spec.run_options import RunOptions
from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput
from trainables.core import Pair
from trainables.models.gguf import is_gguf, without_hash
from trainables.options import limits

SHORT = {"--data": "data", "--task": "generators"}  # flag -> the field of a task that it sets


@dataclasses.dataclass(frozen=True)
class Resources:
    """The resources of one trial."""

    cpu: float | None = None  # cores
    gpu: float | None = None  # GPUs, or a share of one; none: one, if there are any and trials have a base


@dataclasses.dataclass(frozen=True)
class SweepFlags:
    """Flags that change the script's sweep. An empty value keeps what the script has."""

    # builtin:tiny, a hub name, a folder or a GGUF file; options after colons, as in NAME:nf4; several are compared
    base: tuple[str, ...] = ()
    learner: tuple[str, ...] = ()  # only these learners
    phase: tuple[str, ...] = ()  # only these phases of a script with several sweeps, in the script's order
    num_samples: int | None = None  # trials
    all_trials: bool = False  # start all trials, even if more of them would hardly find anything better
    budget: float | None = None  # trainings of all rounds that the search may take in all; none: no limit
    rounds: int | None = None  # rounds of a trial that is not stopped early
    grace_period: int | None = None  # rounds before ASHA may stop a trial; none: an eighth of all rounds
    # asha: trials pause, and the best of those that got as far go on; stopping: Ray's, which stops the others for good
    scheduler: Literal["asha", "stopping"] | None = None
    max_concurrent_trials: int | None = None  # trials that run at the same time; none: as many as there is room for
    resources: Resources = dataclasses.field(default_factory=Resources)
    num_workers: int | None = None  # processes that train one trial together (Ray Train); none: one per GPU of it
    parallel_strategy: Literal["auto", "ddp", "fsdp"] | None = None  # auto: fsdp if the model does not fit one GPU
    keep: bool = False  # the best and latest checkpoint of every trial, for espalier clone
    finalists: int | None = None  # how many of the best are trained again and scored on the test split; 0: none
    seats: int | Literal["auto"] | None = None  # trials that share one base; 1: each trial loads its own
    hosts: int | Literal["auto"] | None = None  # processes that hold a base, each with its own seats
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="AXIS=VALUE [...]")] = ()  # fixed, not searched
    # score, and beside it trainable_parameters, seconds (a trial's own), loss, out_of_domain; with several ASHA is off
    objectives: tuple[str, ...] = ()
    search: Literal["tpe", "random", "nsga2"] | None = None  # the algorithm that suggests configurations
    like: Path | None = None  # a sweep's folder: search its space, narrowed, and try its best configurations first
    seed: int | None = None  # random seed of the search and of every trial
    # for all of the sweep, its finalists included: after a short probe, trials, rounds, questions and finalists that no
    # flag gives are chosen to decide most in that time
    minutes: float | None = None
    time_budget_s: float | None = None  # seconds after which the sweep ends as by Ctrl-C; --resume continues it
    max_cost: float | None = None  # dollars; start no trial that would exceed this sum at the provider's prices


@dataclasses.dataclass(frozen=True)
class Flags(RunOptions, SweepFlags):  # dataclasses order fields from the last base class to the first
    """All flags of a sweep script."""

    cluster: Path | None = None  # a cluster's file: run there, watch from here, and copy the sweep's folder here
    plan: bool = False  # print what the sweep would cost, and start nothing
    json: bool = False  # with --plan: print it as one line of JSON; the text goes to standard error


def as_words(flags: Mapping[str, Any]) -> list[str]:
    """Return flags with their names in Python as the words of a command line. None keeps what the script has."""
    words = []
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            several = isinstance(value, Sequence) and not isinstance(value, str)
            words += [f"--{flag}", *map(str, value if several else [value])]
    return words


def parse(sweep: Sweep, argv: list[str]) -> tuple[Flags, Sweep]:
    """Return the flags, and the sweep with them applied. Raises BadInput."""
    flags, task = read(sweep, argv)
    return flags, apply(sweep, flags, task)


def read(sweep: Sweep, argv: list[str], phases: Mapping[str, Sweep] | None = None) -> tuple[Flags, Any]:
    """Return the flags and the task, with fields from `--task.FIELD` and their `SHORT` flags. Raises BadInput.

    `phases` are the sweeps of a script that has several; `sweep` is the first of them.
    """
    _check_lists(argv)
    task = sweep.pairs[0].task
    argv = [_spelled_out(one, task) for one in argv]
    unprefixed = Annotated[Flags, tyro.conf.arg(name="")]
    plain = _as_in_script(phases or {sweep.name: sweep}) if {"-h", "--help"} & {*argv} else Flags()
    kind = _with_flag_names(type(task))
    own = dataclasses.field(default=kind(**_values(task)))
    every = dataclasses.make_dataclass("Every", [("flags", unprefixed, plain), ("task", kind, own)])
    program, description = f"python {sys.argv[0]}", sys.modules["__main__"].__doc__
    try:
        given = parse_with(tyro.cli, every, args=argv, prog=program, description=description)
    except ValueError as error:  # a task refuses its fields in one line, but not with BadInput
        raise BadInput(str(error)) from error
    return given.flags, type(task)(**_values(given.task))


def _spelled_out(word: str, task: Any) -> str:
    """Return the whole flag for a short one of a field that the task has; any other word as it is."""
    flag, equals, value = word.partition("=")
    field = SHORT.get(flag)
    return f"--task.{field}{equals}{value}" if field in fields_of(task) else word


def _with_flag_names(kind: Any) -> Any:
    """Return a subclass of a task's class for which the parser takes the flags of `Task.flag_names`."""
    hints = get_type_hints(kind)
    names = {name: Annotated[hints[name], tyro.conf.arg(name=flag)] for name, flag in kind.flag_names.items()}
    return type(kind.__name__, (kind,), {"__annotations__": names, "__module__": kind.__module__})


def _values(task: Any) -> dict[str, Any]:
    return {field.name: getattr(task, field.name) for field in dataclasses.fields(task) if field.init}


def _check_lists(argv: list[str]) -> None:
    """Refuse lists that are given twice or are empty: the parser would drop the first, and accept the second."""
    lists = [f"--{field.name}" for field in dataclasses.fields(Flags) if field.default == ()]
    given = Counter(word.partition("=")[0] for word in argv)
    for name in lists:
        if given[name] > 1:
            raise BadInput(name, f"is given {given[name]} times", "give it once, with all its values after it")
    for word, after in pairwise([*argv, "--"]):
        if word in lists and after.startswith("--"):
            raise BadInput(word, "has no value", "give one, or leave it out")


def _as_in_script(sweeps: Mapping[str, Sweep]) -> Flags:
    """Return the script's own values as flags, for `--help`. Flags in which its sweeps differ stay empty."""
    names = {field.name for field in dataclasses.fields(Sweep)} & {field.name for field in dataclasses.fields(Flags)}
    own: list[dict[str, Any]] = []
    for one in sweeps.values():
        own.append({name: getattr(one, name) for name in names - {"name"}})
        own[-1]["grace_period"] = one.effective_grace_period()
        own[-1]["base"] = tuple(one.bases())
        own[-1]["resources"] = Resources(**one.resources_per_trial)
    alike = {name: value for name, value in own[0].items() if all(other[name] == value for other in own)}
    learners = tuple(dict.fromkeys(pair.learner.name for one in sweeps.values() for pair in one.pairs))
    return Flags(**alike, learner=learners, phase=tuple(sweeps) if len(sweeps) > 1 else ())


def apply(sweep: Sweep, flags: Flags, task: Any) -> Sweep:
    """Return the sweep with the flags applied. Raises BadInput for a learner or axis that it does not have."""
    pairs = {pair.learner.name: pair for pair in (*sweep.pairs, *sweep.optional)}
    for name in flags.learner:
        if name not in pairs:
            raise BadInput(f"--learner {name}:", f"this sweep's learners are {', '.join(pairs)}")
    chosen = [pairs[name] for name in flags.learner] or list(sweep.pairs)
    chosen = on_bases([dataclasses.replace(p, task=task) for p in chosen], flags.base)
    changes: dict[str, Any] = {"pairs": tuple(chosen), "optional": ()}
    changes["space"] = {p.name: sweep.space_of(p) for p in chosen}
    plain = {f.name for f in dataclasses.fields(Sweep)} & {f.name for f in dataclasses.fields(Flags)}
    for name in plain:
        if (value := getattr(flags, name)) not in (None, ()) and value is not False:
            changes[name] = value
    if flags.objectives:
        changes["objectives"] = tuple(name for text in flags.objectives for name in text.split(","))
    if flags.rounds and flags.grace_period is None and sweep.grace_period:
        changes["grace_period"] = min(sweep.grace_period, flags.rounds)
    asked = {name: value for name, value in dataclasses.asdict(flags.resources).items() if value is not None}
    changes["resources_per_trial"] = {**sweep.resources_per_trial, **asked}
    fixed = dataclasses.replace(sweep, **changes).fix(dict(_assignment(text) for text in flags.set))
    try:
        fitted = {p.name: fit(fixed.space_of(p), limits(p.learner), p.base) for p in chosen}
    except SpaceError as error:
        raise BadInput(str(error)) from error
    return dataclasses.replace(fixed, space=fitted)


def on_bases(pairs: Sequence[Pair], given: Sequence[str]) -> list[Pair]:
    """Return the pairs on the given bases, or on their own if none is given; without a base as they are.

    Several bases get labels, and are neighbours: so the defaults that are tried first are those of different bases.
    Raises BadInput for a base that is given twice.
    """
    bases = [_settled(base) for base in given]
    if twice := [base for base, count in Counter(bases).items() if count > 1]:
        raise BadInput("--base", f"names {without_hash(twice[0])} twice", "give each base once")
    labels = base_labels(bases) if len(bases) > 1 else {}
    found = []
    for pair in pairs:
        own = (bases or [_settled(pair.base)]) if pair.learner.needs_base else [pair.base]
        found += [dataclasses.replace(pair, base=base, label=labels.get(base, "")) for base in own]
    return found


def _settled(base: str) -> str:
    """Return the base with an absolute path if it is on this machine, and with the sha256 of a GGUF file.

    Hosts may have another working directory, and the file may be replaced between two runs. Raises BadInput.
    """
    source, colon, options = base.partition(":")
    if source not in ("", "builtin") and Path(source).exists():
        base = f"{Path(source).absolute()}{colon}{options}"
    if not is_gguf(base):
        return base
    from trainables.models.loading import pin  # imports torch

    return pin(base)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadInput(f"--set {text}:", "write AXIS=VALUE, for example --set learning_rate=0.003")
    return name, read_value(f"--set {text}", value)
