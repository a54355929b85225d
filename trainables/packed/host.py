"""A host owns a base, the adapters on it and their optimizers; callers know trial ids, never what lies behind them.

Each open trial has a seat. A learner says what to train on and how log-probabilities become a loss (`LanguageLearner`);
the host runs the frozen base on the rows of all seats at once, steps their optimizers together, and decodes for all
of them. A seat's numbers do not depend on its neighbours: batches have a fixed shape and rows never meet.
Plain Python and torch, one thread: it works without Ray.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch

from trainables.core import Evaluation, LanguageLearner, RoundResult, Row, Split
from trainables.models.loading import Base
from trainables.models.peft_adapters import fresh
from trainables.packed.adapter_stack import Stack
from trainables.packed.executor import Bench
from trainables.packed.hosted_trial import Requesting, Sitting, dialogue
from trainables.packed.requests import Decode, Measure, Request, Step, Train
from trainables.packed.specs import HostFull, Shape, write_files
from trainables.packed.stacked_adamw import StackedAdamW
from trainables.training.oom import ran_out
from trainables.training.round_metrics import timed_evaluation, timed_round

Work = Literal["round", "evaluate"]
Answers = TypeVar("Answers")


class Host:
    """`open`, then `round` and `evaluate` as often as wanted, `state`/`load` at a round's end, `close`. Idempotent.

    `run` does work of many trials together; `start` and `tick` are its parts, for a caller with a loop of its own.
    """

    def __init__(self, base: Base, shape: Shape | None = None) -> None:
        self.base, self.shape = base, shape or Shape()
        stack = Stack(base, self.shape.seats, self.shape.max_rank, self.shape.max_prompt)
        self._stack, self._optimizer = stack, StackedAdamW(stack)
        self._bench = Bench(stack, self._optimizer, self.shape.lanes, self.shape.decode_lanes)
        self._seats: dict[str, Sitting] = {}
        self._jobs: dict[str, _Job] = {}

    @property
    def trial_ids(self) -> list[str]:
        """Whose seats are taken, in the order in which they were opened."""
        return list(self._seats)

    def open(self, trial_id: str, learner: LanguageLearner, seed: int = 0) -> None:
        """Give a trial a fresh adapter. A trial that is already here starts again (a restarted process may reopen).

        Raises HostFull when there is no free seat, or when the adapter is larger than this host's seats.
        """
        self.close(trial_id)
        adapter, shape = learner.adapter, self.shape
        if len(self._seats) >= shape.seats:
            raise HostFull(
                f"trial {trial_id!r}: all {shape.seats} seats are held by {sorted(self._seats)}; close one", True
            )
        if adapter.r > shape.max_rank or adapter.num_virtual_tokens > shape.max_prompt:
            raise HostFull(
                f"trial {trial_id!r} has rank {adapter.r} and {adapter.num_virtual_tokens} virtual tokens; this host"
                f" takes {shape.max_rank} and {shape.max_prompt}: open one with a larger max_rank or max_prompt"
            )
        if not adapter.r and not adapter.num_virtual_tokens:
            raise ValueError(f"trial {trial_id!r} has no trainable parameter; give it a rank or virtual tokens")
        taken = {seat.slot for seat in self._seats.values()}
        slot = next(slot for slot in range(shape.seats) if slot not in taken)
        made = fresh(self.base, adapter, seed)
        self._stack.adapt(made.modules)
        self._stack.fill(slot, made.values, made.scale)
        self._optimizer.open(slot)
        self._bench.open(slot)
        self._seats[trial_id] = Sitting(slot, learner, seed, made, self._stack, self._optimizer)

    def round(self, trial_id: str) -> RoundResult:
        """Train `steps_per_round` optimizer steps. Metrics: `loss` (mean, nats per label token; NaN at divergence),
        `grad_norm` (before clipping, mean), `steps` so far, `trainable_parameters`, `peak_memory_mib`; `train_seconds`,
        what the round took of the host's time; `tokens_per_second`, the tokens of the rows that were trained on,
        prompts included and padding not, by those; after the first round `without_gradient`, the modules that no
        gradient reached, if any.

        A batch's time is shared out among its seats by the tokens, with padding, that each had computed; an optimizer
        step's equally; a decoded token's by the rows that go on; what a seat's own learner does is its own. So seats'
        seconds add up to the time that the host is at work, and a seat by itself has all of it."""
        return self.run({trial_id: "round"})[trial_id]

    def evaluate(self, trial_id: str, split: Split = "search") -> Evaluation:
        """Greedy completions of every prompt of the split, judged by the learner; metrics with `score`, and
        `evaluation_seconds`, counted as those of `round`."""
        return self.run({trial_id: "evaluate"}, split)[trial_id]

    def run(self, work: Mapping[str, Work], split: Split = "search") -> dict[str, Any]:
        """Run rounds and evaluations of many trials together; results by trial id. Raises the first fault of any."""
        results: dict[str, Any] = {}
        try:
            for trial_id, what in work.items():
                self.start(trial_id, what, split)
            while len(results) < len(work):
                for trial_id, result in self.tick().items():
                    if isinstance(result, Exception):
                        raise result
                    results[trial_id] = result
        finally:
            for trial_id in work:  # that another's fault has cut short
                self.drop(trial_id)
        return results

    def start(self, trial_id: str, what: Work, split: Split = "search") -> None:
        """Begin a round or an evaluation; `tick` takes it further. Raises KeyError for a trial without a seat."""
        seat, meter = self._seats[trial_id], self._bench.meter
        generator = seat.round() if what == "round" else seat.evaluate(split)
        meter.begin()
        self._jobs[trial_id] = job = _Job(generator, what)
        job.seconds += meter.lap()

    def drop(self, trial_id: str) -> None:
        """Forget what a trial was doing."""
        self._jobs.pop(trial_id, None)

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def tick(self) -> dict[str, Any]:
        """Do one thing for as many seats as possible; the results, or faults, of what ended with it."""
        for kind in (Step, Train, Measure, Decode):  # decoding last: who is behind catches up, and all decode together
            if waiting := {name: job for name, job in self._jobs.items() if type(job.request) is kind}:
                self._answer(waiting)
                break
        over = {trial_id: job for trial_id, job in self._jobs.items() if job.request is None}
        for trial_id, job in over.items():
            del self._jobs[trial_id]
            if isinstance(job.result, RoundResult):
                job.result = timed_round(job.result, job.seconds)
            elif isinstance(job.result, Evaluation):
                job.result = timed_evaluation(job.result, job.seconds)
            if self._bench.halvings and isinstance(job.result, RoundResult | Evaluation):
                job.result = job.result.with_metrics({"memory_halvings": self._bench.halvings})
        return {trial_id: job.result for trial_id, job in over.items()}

    def evaluate_untouched(self, learner: LanguageLearner, split: Split = "search") -> Evaluation:
        """What the base scores by itself, under the same prompts and the same scorer. Needs no seat."""

        job = _Job(dialogue(learner.evaluate(split), self._stack, self.shape.seats, 0), "evaluate")
        while job.request is not None:
            self._answer({"untouched": job})
        if isinstance(job.result, Exception):
            raise job.result
        return job.result

    def logprobs(self, rows: Sequence[Row], trial_id: str | None = None) -> list[torch.Tensor]:
        """Per row, the log-probability (nats) of each label under a trial's adapter, or under the untouched base."""
        slot, virtual = self.shape.seats, 0
        if trial_id is not None:
            seat = self._seats[trial_id]
            slot, virtual = seat.slot, seat.learner.adapter.num_virtual_tokens
        return self._in_memory(lambda: self._bench.logprobs(slot, rows, virtual))

    def state(self, trial_id: str) -> bytes:
        """All that is needed to go on, here or in another host: adapter, moments, step, place in the data."""
        buffer = io.BytesIO()
        torch.save(self._seats[trial_id].state(), buffer)
        return buffer.getvalue()

    def load(self, trial_id: str, state: bytes) -> None:
        loaded = torch.load(io.BytesIO(state), map_location=self.base.device, weights_only=False)
        self._seats[trial_id].load(loaded)

    def values(self, trial_id: str) -> dict[str, torch.Tensor]:
        """A copy of a trial's parameters: `prompt`, and `<module>.A` (r, in) and `<module>.B` (out, r)."""
        return self._seats[trial_id].values()

    def files(self, trial_id: str) -> dict[str, bytes]:
        """The adapter in PEFT's format, path -> content (see `adapters.Fresh.files`)."""
        seat = self._seats[trial_id]
        return seat.made.files(seat.values())

    def save(self, trial_id: str, folder: str) -> None:
        """Write `files` into a folder."""
        write_files(folder, self.files(trial_id))

    def close(self, trial_id: str) -> None:
        """Free the seat and clear what it held; unknown ids are fine."""
        self.drop(trial_id)
        seat = self._seats.pop(trial_id, None)
        if seat:
            self._stack.fill(seat.slot, {}, 0.0)
            self._optimizer.open(seat.slot)

    def shut(self) -> None:
        """Give the base back as it was."""
        for trial_id in list(self._seats):
            self.close(trial_id)
        self._stack.remove()

    def _answer(self, jobs: Mapping[str, _Job]) -> None:
        """Answer requests of one kind, of training as many as fit beside the oldest, and share out what that took."""
        bench, meter = self._bench, self._bench.meter
        do: Mapping[type, Callable[[list[Any]], list[Any]]] = {
            Step: bench.step, Train: bench.train, Measure: bench.measure, Decode: bench.decode,
        }  # fmt: skip
        asked: dict[str, Any] = {name: job.request for name, job in jobs.items()}
        kind = type(next(iter(asked.values())))

        def some() -> dict[str, Any]:
            meter.again()
            chosen = bench.choose(asked) if kind is Train else asked
            return dict(zip(chosen, do[kind](list(chosen.values())), strict=True))

        meter.begin()
        answers = self._in_memory(some, decoding=kind is Decode)
        for name, seconds in zip(answers, meter.shares(len(answers)), strict=True):
            jobs[name].seconds += seconds
        for name, answer in answers.items():
            jobs[name].go_on(answer)
            jobs[name].seconds += meter.lap()

    def _in_memory(self, do: Callable[[], Answers], decoding: bool = False) -> Answers:
        """Again with half as many rows at a time where memory runs out, as often as that is possible. Everything that
        has the base compute goes through here: what fails has changed nothing."""
        while True:
            try:
                return do()
            except RuntimeError as error:
                if not ran_out(error) or not self._bench.halve(decoding):
                    raise


class _Job:
    """A seat's generator, what it asks for now, and, once it has ended, what it returned or raised; and the seconds of
    the host that it has had."""

    def __init__(self, generator: Requesting, what: Work) -> None:
        self._generator = generator
        self.request: Request | None = None
        self.result: Any = None
        self.what, self.seconds = what, 0.0
        self.go_on(None)

    def go_on(self, answer: Any) -> None:
        try:
            fault = isinstance(answer, Exception)
            self.request = self._generator.throw(answer) if fault else self._generator.send(answer)
        except StopIteration as end:
            self.request, self.result = None, end.value
        except Exception as fault:  # this trial's own: its learner, its data
            self.request, self.result = None, fault
