"""Record whole curves of random configurations, on which `search.py` replays sweeps.

    python benchmarks/record.py                 # the recordings that there are, and about how long each takes
    python benchmarks/record.py arena           # record one; after Ctrl-C or a crash the same command goes on
    python benchmarks/record.py arena --configurations 32 --rounds 4 --name small

Each configuration is trained for all rounds; after each it answers the questions of the search split, and at the end
those of the test split. Trials share bases in hosts, as in a sweep, two of which run side by side with one thread each.
What is done so far lies in `runs/record/NAME`, a file for each configuration with its state, and the finished recording
in `benchmarks/bank/NAME.parquet`: a row for each configuration, lists of one length:

- `params`: the axes' values, as JSON; `lasted`: rounds; `diverged`: whether the loss was not finite in the last of them
- `answers`: the score of each question in each round (rounds x questions); 0 after the last round
- `log_likelihoods`: log-probability of each right answer in nats, likewise; empty if the learner has no language model
- `rows`, `seconds`: of each round: rows of training data, and the seconds of training and asking
- `test`: the score of each question of the test split; 0 if the training diverged

The file's metadata have the space, the task and the numbers of rounds and questions.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import optuna
import pyarrow
import pyarrow.parquet

from benchmarks.curves import FORMAT
from search_spaces import lora
from search_spaces.space import Space
from sweeps import arc, arena, strategyqa
from sweeps.resources.placement import Machine, place
from sweeps.results.trial_params import TrialParams
from sweeps.spec.fit_to_bases import fitted
from sweeps.spec.sweep import Sweep, data_fingerprint
from trainables.atomic import replace_file
from trainables.bad_input import BadInput
from trainables.core import Evaluation, Learner, Pair, RoundResult, Split
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import LanguageConfig
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.runtime.open_learner import open_in_process
from trainables.states import UnreadableState, pack, unpack
from trainables.tasks.reasoning.task import ReasoningTask

SEATS = 16  # of a host
SEED = 0  # of the configurations, and of every training


@dataclass(frozen=True)
class Recording:
    """What is recorded: a sweep of one pair. `minutes`: about how long it takes on two cores, an estimate."""

    sweep: Sweep
    configurations: int
    minutes: float

    @property
    def pair(self) -> Pair:
        return self.sweep.pairs[0]

    @property
    def space(self) -> Space:
        return self.sweep.space_of(self.pair)


def _of(sweep: Sweep, learner: str, rounds: int) -> Sweep:
    """Return the part of a sweep with one of its learners."""
    pair = next(one for one in sweep.pairs if one.learner.name == learner)
    return dataclasses.replace(sweep, pairs=(pair,), optional=(), space=sweep.space_of(pair), rounds=rounds)


def _on_gcd(rounds: int, base: str, questions: int, steps: int, *params: str) -> Sweep:
    """Return a sweep on greatest common divisors, which take a small base many rounds to learn."""
    task = ReasoningTask("rg:gcd", params, train_size=2000, search_size=questions, test_size=2 * questions)
    return Sweep("reasoning", (Pair(LoraConfig(steps_per_round=steps), task, base),), lora.SPACE, rounds=rounds)


def _of_arc(rounds: int, test: int) -> Sweep:
    """Return the sweep of percell. Each of its test questions takes a whole training, so it gets few."""
    sweep = _of(arc.SWEEP, "percell", rounds)
    pair = sweep.pairs[0]
    return dataclasses.replace(
        sweep, pairs=(dataclasses.replace(pair, task=dataclasses.replace(pair.task, limit_test=test)),)
    )


RECORDINGS = {
    "arena": Recording(_of(arena.SWEEP, "lora", 8), 256, 60),
    "arena_long": Recording(_of(arena.SWEEP, "lora", 32), 128, 120),
    "gcd": Recording(_on_gcd(24, "builtin:tiny", 250, 20, "max_value=200"), 256, 190),
    "strategyqa_sft": Recording(_of(strategyqa.SWEEP.phases["sft"], "lora", 8), 256, 150),
    "arc_percell": Recording(_of_arc(4, 12), 96, 170),
    "smollm2_gcd": Recording(_on_gcd(3, "builtin:smollm2", 100, 10), 64, 240),
}


@dataclass
class Part:
    """One configuration as far as it is recorded. Lists have an entry for each round; `state` goes on from there."""

    answers: list[list[float]] = field(default_factory=list)
    log_likelihoods: list[list[float]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    diverged: bool = False
    test: list[float] = field(default_factory=list)
    state: bytes = b""

    @property
    def rounds(self) -> int:
        return len(self.rows)

    @property
    def finished(self) -> bool:
        return self.diverged or bool(self.test)

    @classmethod
    def read(cls, file: Path) -> Part:
        """Return what a file has; nothing if there is none."""
        return cls(**unpack(file.read_bytes())) if file.is_file() else cls()

    def write(self, file: Path) -> None:
        replace_file(file, pack(dataclasses.asdict(self)))


class Group(Protocol):
    """Trials that are trained together, by name."""

    def open(self, name: str, pair: Pair) -> None: ...
    def round(self, names: Sequence[str]) -> Mapping[str, RoundResult]: ...
    def evaluate(self, names: Sequence[str], split: Split) -> Mapping[str, Evaluation]: ...
    def log_likelihoods(self, name: str, pair: Pair) -> list[float]: ...
    def state(self, name: str) -> bytes: ...
    def load(self, name: str, state: bytes) -> None: ...
    def close(self, name: str) -> None: ...


class HostGroup:
    """Trials that share a base in a host."""

    def __init__(self, pair: Pair, shape: Shape) -> None:
        from trainables.models.loading import load

        self._host = Host(load(pair.base), shape)

    def open(self, name: str, pair: Pair) -> None:
        self._host.open(name, pair.learner.build(self._host.base, pair.task, SEED), SEED)  # type: ignore[arg-type]

    def round(self, names: Sequence[str]) -> Mapping[str, RoundResult]:
        return self._host.run(dict.fromkeys(names, "round"))

    def evaluate(self, names: Sequence[str], split: Split) -> Mapping[str, Evaluation]:
        return self._host.run(dict.fromkeys(names, "evaluate"), split)

    def log_likelihoods(self, name: str, pair: Pair) -> list[float]:
        from trainables.models.tokenization import encode_row

        rows = [encode_row(self._host.base.tokenizer, example) for example in pair.task.search()]
        return [float(row.sum()) for row in self._host.logprobs(rows, name)]

    def state(self, name: str) -> bytes:
        return self._host.state(name)

    def load(self, name: str, state: bytes) -> None:
        self._host.load(name, state)

    def close(self, name: str) -> None:
        self._host.close(name)


class SoloGroup:
    """Trials that share nothing, one after the other."""

    def __init__(self) -> None:
        self._learners: dict[str, Learner] = {}

    def open(self, name: str, pair: Pair) -> None:
        self._learners[name] = open_in_process(pair, SEED)

    def round(self, names: Sequence[str]) -> Mapping[str, RoundResult]:
        return {name: _timed("train_seconds", self._learners[name].round) for name in names}

    def evaluate(self, names: Sequence[str], split: Split) -> Mapping[str, Evaluation]:
        return {
            name: _timed("evaluation_seconds", lambda own=self._learners[name]: own.evaluate(split)) for name in names
        }

    def log_likelihoods(self, name: str, pair: Pair) -> list[float]:
        return []

    def state(self, name: str) -> bytes:
        return self._learners[name].state()

    def load(self, name: str, state: bytes) -> None:
        self._learners[name].load(state)

    def close(self, name: str) -> None:
        self._learners.pop(name).close()


def _timed(name: str, work: Any) -> Any:
    start = time.perf_counter()
    result = work()
    return result.with_metrics({name: result.metrics.get(name, time.perf_counter() - start)})


def configurations(recording: Recording) -> list[dict[str, Any]]:
    """Draw the configurations, without those that the learner refuses; always the same ones."""
    study, found = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED)), list[dict[str, Any]]()
    while len(found) < recording.configurations:
        params = recording.space.suggest(study.ask())
        try:
            recording.sweep.resolve(TrialParams(recording.pair.name, params))
        except BadInput:
            continue
        found.append(params)
    return found


def rows_of(pair: Pair) -> int:
    """Return the rows on which a configuration is trained in a round: of data, or steps of all networks."""
    own: Any = pair.learner
    if isinstance(own, LanguageConfig):
        per_batch = own.new_rows() * (1 + own.replay_ratio)
        return round(own.steps_of_round() * own.gradient_accumulation_steps * per_batch)
    return own.steps_per_round * len(pair.task.search()) * getattr(own, "seeds", 1)


def record_some(recording: Recording, numbers: Sequence[int], folder: Path, host: int) -> None:
    """Record these configurations, as far as they are not yet; runs in a process of its own."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    drawn = configurations(recording)
    group, seats = _group(recording, len(numbers))
    waiting = [number for number in numbers if not Part.read(_file(folder, number)).finished]
    running: dict[str, tuple[Pair, Part]] = {}
    while waiting or running:
        while waiting and len(running) < seats:
            number = waiting.pop(0)
            pair = recording.sweep.resolve(TrialParams(recording.pair.name, drawn[number]))
            part = Part.read(_file(folder, number))
            group.open(str(number), pair)
            if part.state:
                group.load(str(number), part.state)
            running[str(number)] = (pair, part)
        start = time.monotonic()
        ended = record_round(group, running, recording.sweep.rounds, folder)
        seconds = time.monotonic() - start
        left = sum(recording.sweep.rounds - part.rounds for _, part in running.values() if not part.finished)
        left += recording.sweep.rounds * len(waiting)
        minutes = seconds * left / len(running) / 60
        print(f"host {host}: {len(running)} trials, {seconds:.1f} s, about {minutes:.0f} minutes left", flush=True)
        for name in ended:
            group.close(name)
            del running[name]


def _group(recording: Recording, trials: int) -> tuple[Group, int]:
    """Return the trials' place, and how many it holds."""
    if not recording.pair.learner.packs:
        return SoloGroup(), 1
    seats = max(2, min(SEATS, trials))
    placed = place(dataclasses.replace(recording.sweep, seats=seats, hosts=1, num_samples=3 * seats), Machine())
    assert placed.shape is not None, "a learner that packs has a host"
    return HostGroup(recording.pair, placed.shape), seats


def record_round(group: Group, running: Mapping[str, tuple[Pair, Part]], rounds: int, folder: Path) -> list[str]:
    """Train and ask all running trials once, and keep it. Return those that have ended."""
    trained = group.round(list(running))
    alive = [name for name, one in trained.items() if math.isfinite(one.loss)]
    asked = group.evaluate(alive, "search") if alive else {}
    last = [name for name in alive if running[name][1].rounds + 1 == rounds]
    tested = group.evaluate(last, "test") if last else {}
    ended = []
    for name, (pair, part) in running.items():
        part.rows.append(rows_of(pair))
        part.seconds.append(trained[name].metrics["train_seconds"])
        part.diverged = name not in asked
        if not part.diverged:
            part.seconds[-1] += asked[name].metrics["evaluation_seconds"]
            part.answers.append([float(score) for score in asked[name].items])
            part.log_likelihoods.append(group.log_likelihoods(name, pair))
            part.test = [float(score) for score in tested[name].items] if name in tested else []
        part.state = b"" if part.finished else group.state(name)
        part.write(_file(folder, int(name)))
        if part.finished:
            ended.append(name)
    return ended


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.part"


def table_of(recording: Recording, parts: Sequence[Part]) -> pyarrow.Table:
    """Return the finished recording; see the module's docstring."""
    task, rounds = recording.pair.task, recording.sweep.rounds
    questions, tests = len(task.search()), len(task.test())

    def padded(values: Sequence[Sequence[Any]], width: int) -> list[float]:
        full = np.zeros((rounds, width))
        full[: len(values)] = np.reshape(values, (len(values), width))
        return full.ravel().tolist()

    lists = {"answers": [padded(one.answers, questions) for one in parts]}
    spoken = any(row for one in parts for row in one.log_likelihoods)
    lists["log_likelihoods"] = [padded(one.log_likelihoods, questions) if spoken else [] for one in parts]
    lists |= {name: [padded([[x] for x in getattr(one, name)], 1) for one in parts] for name in ("rows", "seconds")}
    lists["test"] = [one.test or [0.0] * tests for one in parts]
    half, single = pyarrow.list_(pyarrow.float16()), pyarrow.list_(pyarrow.float32())
    kinds = {"answers": half, "log_likelihoods": half, "rows": single, "seconds": single, "test": half}
    columns: dict[str, Any] = {
        "params": pyarrow.array([json.dumps(one) for one in configurations(recording)]),
        "lasted": pyarrow.array([one.rounds for one in parts], pyarrow.int32()),
        "diverged": pyarrow.array([one.diverged for one in parts]),
    }
    for name, rows in lists.items():
        if kinds[name] == half:
            rows = [np.asarray(row, np.float16) for row in rows]
        columns[name] = pyarrow.array(rows, kinds[name])
    return pyarrow.table(columns).replace_schema_metadata({FORMAT: json.dumps(facts_of(recording))})


def facts_of(recording: Recording) -> dict[str, Any]:
    """Return the metadata of a recording. A recording that has begun goes on only with the same."""
    pair, sweep = recording.pair, recording.sweep
    return {
        "space": recording.space.to_dict(),
        "rounds": sweep.rounds,
        "questions": len(pair.task.search()),
        "configurations": recording.configurations,
        "learner": pair.learner.name,
        "base": pair.base,
        "task": pair.task.name,
        "data": data_fingerprint(pair.task),
        "chance": pair.task.chance,
        "seed": SEED,
    }


def begin(recording: Recording, folder: Path) -> None:
    """Make the folder of a recording, or check that it holds the same one. Raise BadInput."""
    facts, known = json.dumps(facts_of(recording), indent=1), folder / "recording.json"
    if not known.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(known, facts.encode())
        return
    old, new = json.loads(known.read_text()), json.loads(facts)
    if other := [name for name in new if old.get(name) != new[name]]:
        raise BadInput(
            f"{folder} was begun with other settings ({other[0]}); record under another --name, or delete it"
        )


def record(recording: Recording, folder: Path, target: Path, hosts: int) -> int:
    """Record what is missing, with hosts side by side; write the bank. Return an exit status."""
    begin(recording, folder)
    context = multiprocessing.get_context("spawn")
    shares = [range(host, recording.configurations, hosts) for host in range(hosts)]
    workers = [
        context.Process(target=record_some, args=(recording, share, folder, host)) for host, share in enumerate(shares)
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.join()
    parts = [Part.read(_file(folder, number)) for number in range(recording.configurations)]
    if missing := sum(not part.finished for part in parts):
        print(f"{missing} of {len(parts)} configurations are not finished; the same command goes on with them")
        return 1
    target.parent.mkdir(parents=True, exist_ok=True)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table_of(recording, parts), sink, compression="zstd", compression_level=19)
    replace_file(target, sink.getvalue().to_pybytes())
    print(f"{target}: {len(parts)} configurations, {target.stat().st_size / 2**20:.1f} MiB; {folder} can be deleted")
    return 0


def chosen(given: argparse.Namespace) -> Recording:
    """Return the recording with the sizes that were given."""
    own = RECORDINGS[given.recording]
    sweep = dataclasses.replace(own.sweep, rounds=given.rounds or own.sweep.rounds)
    return dataclasses.replace(own, sweep=fitted(sweep), configurations=given.configurations or own.configurations)


def main(argv: Sequence[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("recording", nargs="?", choices=RECORDINGS)
    flags.add_argument("--name", help="of the recording; by default as it is called here")
    flags.add_argument("--configurations", type=int)
    flags.add_argument("--rounds", type=int)
    flags.add_argument("--hosts", type=int, default=2, help="processes side by side, with one thread each")
    flags.add_argument("--parts", type=Path, default=Path("runs/record"), help="where unfinished recordings lie")
    flags.add_argument("--bank", type=Path, default=Path(__file__).parent / "bank")
    given = flags.parse_args(argv)
    if given.recording is None:
        for name, one in RECORDINGS.items():
            pair = f"{one.pair.learner.name} on {one.pair.task.name} ({one.pair.base})"
            size = f"{one.configurations} configurations of {one.sweep.rounds} rounds"
            print(f"{name:16} {pair}: {size}, about {one.minutes:.0f} minutes on two cores")
        return 0
    name = given.name or given.recording
    try:
        return record(chosen(given), given.parts / name, given.bank / f"{name}.parquet", given.hosts)
    except (BadInput, UnreadableState) as error:
        flags.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
