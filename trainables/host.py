"""A host owns a base, the adapters on it and their optimizers; callers know trial ids, never what lies behind them.

Each open trial has a seat. A learner says what to train on and how log-probabilities become a loss (`LanguageLearner`);
the host runs the frozen base on the rows of all seats at once, steps their optimizers together, and decodes for all
of them. A seat's numbers do not depend on its neighbours: batches have a fixed shape and rows never meet.
Plain Python and torch, one thread: it works without Ray.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from trainables.adamw import StackedAdamW
from trainables.adapters import fresh
from trainables.asking import answered, check_ask
from trainables.bases import Base
from trainables.core import Complete, LanguageLearner, Read, Row, Split
from trainables.memory import ran_out
from trainables.shape import HostFull, Shape, write_files
from trainables.sitting import Sitting, requested
from trainables.stack import Stack
from trainables.work import Bench, Decode, Measure, Request, Step, Train

Work = Literal["round", "evaluate"]


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

    def round(self, trial_id: str) -> dict[str, Any]:
        """Train `steps_per_round` optimizer steps. Metrics: `loss` (mean, nats per label token; NaN at divergence),
        `grad_norm` (before clipping, mean), `steps` so far, `trainable_parameters`, `tokens_per_second`,
        `peak_memory_mib`; after the first round `without_gradient`, the modules that no gradient reached, if any."""
        return self.run({trial_id: "round"})[trial_id]

    def evaluate(self, trial_id: str, split: Split = "search") -> dict[str, Any]:
        """Greedy completions of every prompt of the split, judged by the learner; metrics with `score`."""
        return self.run({trial_id: "evaluate"}, split)[trial_id]

    def run(self, work: Mapping[str, Work], split: Split = "search") -> dict[str, dict[str, Any]]:
        """Rounds and evaluations of many trials, together; metrics by trial id. Raises the first fault of any."""
        results: dict[str, dict[str, Any]] = {}
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
        seat = self._seats[trial_id]
        generator = seat.round() if what == "round" else seat.evaluate(split)
        self._jobs[trial_id] = _Job(generator)

    def drop(self, trial_id: str) -> None:
        """Forget what a trial was doing."""
        self._jobs.pop(trial_id, None)

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def tick(self) -> dict[str, Any]:
        """Do one thing for as many seats as possible; the results, or faults, of what ended with it."""
        kinds: dict[type, dict[str, Any]] = {Step: {}, Train: {}, Measure: {}, Decode: {}}
        for trial_id, job in self._jobs.items():
            if job.request is not None:
                kinds[type(job.request)][trial_id] = job.request
        if kinds[Step]:
            self._answer(kinds[Step], self._bench.step)
        elif kinds[Train]:  # before decoding: who is behind catches up, and all decode together
            self._answer(self._bench.choose(kinds[Train]), self._bench.train)
        elif kinds[Measure]:
            self._answer(kinds[Measure], self._bench.measure)
        elif kinds[Decode]:
            self._answer(kinds[Decode], self._bench.decode)
        over = {trial_id: job.result for trial_id, job in self._jobs.items() if job.request is None}
        for trial_id, result in over.items():
            del self._jobs[trial_id]
            if self._bench.halvings and isinstance(result, dict):
                result["memory_halvings"] = self._bench.halvings
        return over

    def evaluate_untouched(self, learner: LanguageLearner, split: Split = "search") -> dict[str, Any]:
        """What the base scores by itself, under the same prompts and the same scorer. Needs no seat."""

        def answer(ask: Complete | Read) -> Any:
            check_ask(ask, 0, self.base)
            request = requested(ask, self.shape.seats, 0)
            many = self._bench.measure([request]) if isinstance(request, Measure) else self._bench.decode([request])
            return many[0]

        return answered(learner.evaluate(split), answer)

    def logprobs(self, rows: Sequence[Row], trial_id: str | None = None) -> list[torch.Tensor]:
        """Per row, the log-probability (nats) of each label under a trial's adapter, or under the untouched base."""
        if trial_id is None:
            return self._bench.logprobs(self.shape.seats, rows, 0)
        seat = self._seats[trial_id]
        return self._bench.logprobs(seat.slot, rows, seat.learner.adapter.num_virtual_tokens)

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

    def _answer(self, requests: Mapping[str, Request], do: Callable[[list[Any]], list[Any]]) -> None:
        try:
            answers = do(list(requests.values()))
        except RuntimeError as error:
            if not ran_out(error) or not self._bench.halve(decoding=do == self._bench.decode):
                raise
            return  # gradients are added last: nothing is lost, and the requests are still there
        for trial_id, answer in zip(requests, answers, strict=True):
            self._jobs[trial_id].go_on(answer)


class _Job:
    """A seat's generator, what it asks for now, and, once it has ended, what it returned or raised."""

    def __init__(self, generator: Any) -> None:
        self._generator, self.request, self.result = generator, None, None  # type: Any, Request | None, Any
        self.go_on(None)

    def go_on(self, answer: Any) -> None:
        try:
            fault = isinstance(answer, Exception)
            self.request = self._generator.throw(answer) if fault else self._generator.send(answer)
        except StopIteration as end:
            self.request, self.result = None, end.value
        except Exception as fault:  # this trial's own: its learner, its data
            self.request, self.result = None, fault
