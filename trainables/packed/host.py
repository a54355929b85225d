"""A host trains many trials on one frozen base. It owns the base, the adapters of all trials and their optimizers.

Each open trial has a *seat*: one row (a *slot*) of the stacked adapters and of the optimizer state. Callers know trial
ids, never slots. A learner says what to train on and how log-probabilities become a loss (`LanguageLearner`). The host
runs the base on the rows of all seats at once, steps their optimizers together, and decodes for all of them. A trial's
numbers do not depend on the other seats: batches have a fixed shape, and rows never attend to each other.

Plain Python and torch in one thread: it works without Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import torch

from trainables.core import Complete, Completion, Evaluation, LanguageLearner, Read, RoundResult, Row, Split
from trainables.models.loading import Base
from trainables.models.peft_adapters import InitialAdapter, initial_adapter
from trainables.packed.adapter_stack import AdapterStack
from trainables.packed.decoding import decode_prompts
from trainables.packed.executor import BatchExecutor, label_likelihoods
from trainables.packed.hosted_trial import HostedTrial, Requests, to_request
from trainables.packed.requests import DecodeRequest, LogprobRequest, Request, StepRequest, TrainRequest
from trainables.packed.specs import HostFull, Shape, write_files
from trainables.packed.stacked_adamw import StackedAdamW
from trainables.states import pack, unpack
from trainables.training.oom import is_out_of_memory
from trainables.training.round_metrics import timed_evaluation, timed_round

Work = Literal["round", "evaluate"]
Answers = TypeVar("Answers")


class Host:
    """Call `open`, then `round` and `evaluate` any number of times, `state` or `load` between rounds, and `close`.

    `open` starts an open trial again, and `close` ignores unknown ids. `run` does the work of many trials together; a
    caller with its own loop calls `start` and `tick` instead.
    """

    def __init__(self, base: Base, shape: Shape | None = None) -> None:
        self.base, self.shape = base, shape or Shape()
        stack = AdapterStack(base, self.shape.seats, self.shape.max_rank, self.shape.max_prompt)
        self.stack, self.optimizer = stack, StackedAdamW(stack)
        self.executor = BatchExecutor(stack, self.optimizer, self.shape.lanes, self.shape.decode_lanes)
        self.trials: dict[str, HostedTrial] = {}
        self._jobs: dict[str, _Job] = {}

    @property
    def trial_ids(self) -> list[str]:
        """The open trials, in the order in which they were opened."""
        return list(self.trials)

    def open(self, trial_id: str, learner: LanguageLearner, seed: int = 0) -> None:
        """Give a trial a seat and a new adapter. An open trial starts again, as its process may have been restarted.

        Raise HostFull if no seat is free or the adapter is larger than a seat, ValueError for one without parameters.
        """
        adapter = learner.adapter
        self._check_seat(trial_id, adapter.r, adapter.num_virtual_tokens)
        self._seat(trial_id, learner, seed, initial_adapter(self.base, adapter, seed))

    def open_saved(self, trial_id: str, saved: InitialAdapter) -> None:
        """Give a saved adapter (`saved_adapter`) a seat, in which it answers and is not trained. Raises as `open`."""
        self._check_seat(trial_id, saved.r, saved.num_virtual_tokens)
        self._seat(trial_id, None, 0, saved)

    def _check_seat(self, trial_id: str, r: int, virtual: int) -> None:
        """Close the trial if it is open, and check that a seat is free and large enough."""
        self.close(trial_id)
        shape = self.shape
        if len(self.trials) >= shape.seats:
            raise HostFull(
                f"trial {trial_id!r}: all {shape.seats} seats are held by {sorted(self.trials)}; close one", True
            )
        if r > shape.max_rank or virtual > shape.max_prompt:
            raise HostFull(
                f"trial {trial_id!r} has rank {r} and {virtual} virtual tokens; this host"
                f" takes {shape.max_rank} and {shape.max_prompt}: open one with a larger max_rank or max_prompt"
            )
        if not r and not virtual:
            raise ValueError(f"trial {trial_id!r} has no trainable parameter; give it a rank or virtual tokens")

    def _seat(self, trial_id: str, learner: LanguageLearner | None, seed: int, made: InitialAdapter) -> None:
        taken = {seat.slot for seat in self.trials.values()}
        slot = next(slot for slot in range(self.shape.seats) if slot not in taken)
        self.stack.adapt(made.modules)
        self.stack.fill(slot, made.values, made.scale)
        self.optimizer.open(slot)
        self.executor.open(slot)
        self.trials[trial_id] = HostedTrial(slot, learner, seed, made, self.stack, self.optimizer)

    def round(self, trial_id: str) -> RoundResult:
        """Train `steps_per_round` optimizer steps. The loss is the mean in nats per label token, NaN at divergence.

        Metrics: `grad_norm` (mean before clipping), `steps` (so far), `peak_memory_mib`, `train_seconds` (the round's
        share of the host's time), `tokens_per_second` (tokens of the trained rows without padding, per such second),
        and after the first round `without_gradient`, the modules that no gradient reached, if any.

        The time of a batch is divided among its trials by their tokens, padding included. The time of an optimizer step
        is divided equally, and that of a decoding step by the rows that still decode. A learner's own code counts for
        its trial. So
        the seconds of all trials add up to the time that the host works.
        """
        return self.run({trial_id: "round"})[trial_id]

    def evaluate(self, trial_id: str, split: Split = "search") -> Evaluation:
        """Let the learner score the split. Metrics: the learner's, and `evaluation_seconds`, counted as in `round`."""
        return self.run({trial_id: "evaluate"}, split)[trial_id]

    def run(self, work: Mapping[str, Work], split: Split = "search") -> dict[str, Any]:
        """Run rounds and evaluations of many trials together; results by trial id. Raises the first error."""
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
            for trial_id in work:  # after an exception, the work of the other trials is dropped too
                self.drop(trial_id)
        return results

    def start(self, trial_id: str, what: Work, split: Split = "search") -> None:
        """Begin a round or an evaluation, which `tick` continues. Raise KeyError for a trial without a seat."""
        seat, meter = self.trials[trial_id], self.executor.meter
        generator = seat.round() if what == "round" else seat.evaluate(split)
        meter.begin()
        self._jobs[trial_id] = job = _Job(generator, seat.to_request)
        job.seconds += meter.lap()

    def drop(self, trial_id: str) -> None:
        """Abandon a trial's current round or evaluation."""
        self._jobs.pop(trial_id, None)

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def tick(self) -> dict[str, Any]:
        """Execute one request for as many trials as possible; return the results, or exceptions, of finished work."""
        for kind in (
            StepRequest,
            TrainRequest,
            LogprobRequest,
            DecodeRequest,
        ):  # decoding last, so that trials that are behind catch up and all decode together
            if waiting := {name: job for name, job in self._jobs.items() if type(job.request) is kind}:
                self._answer(waiting)
                break
        finished = {trial_id: job for trial_id, job in self._jobs.items() if job.request is None}
        for trial_id, job in finished.items():
            del self._jobs[trial_id]
            if isinstance(job.result, RoundResult):
                job.result = timed_round(job.result, job.seconds)
            elif isinstance(job.result, Evaluation):
                job.result = timed_evaluation(job.result, job.seconds)
            if self.executor.halvings and isinstance(job.result, RoundResult | Evaluation):
                job.result = job.result.with_metrics({"memory_halvings": self.executor.halvings})
        return {trial_id: job.result for trial_id, job in finished.items()}

    def evaluate_untouched(self, learner: LanguageLearner, split: Split = "search") -> Evaluation:
        """Evaluate the base without an adapter, with the learner's prompts and scorer. Needs no seat."""
        job = _Job(learner.evaluate(split), partial(to_request, stack=self.stack, slot=self.shape.seats))
        while job.request is not None:
            self._answer({"untouched": job})
        if isinstance(job.result, Exception):
            raise job.result
        return job.result

    def logprobs(self, rows: Sequence[Row], trial_id: str | None = None) -> list[torch.Tensor]:
        """Return, per row, the log-probability (nats) of each label, with a trial's adapter or (None) without any."""
        slot, virtual = self._place(trial_id)
        return self._retry_smaller(lambda: self.executor.logprobs(slot, rows, virtual))

    def likelihoods(self, rows: Sequence[Row], trial_id: str | None = None) -> list[torch.Tensor]:
        """Return, per row, (labels, 2): the log-probability of each label, and 1 if it is the likeliest token, else 0.

        Adapters as in `logprobs`.
        """
        slot, virtual = self._place(trial_id)
        return self._retry_smaller(lambda: self.executor.logprobs(slot, rows, virtual, label_likelihoods))

    def complete(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, trial_id: str | None = None
    ) -> list[Completion]:
        """Complete prompts (token ids) greedily. Adapters as in `logprobs`."""
        slot, virtual = self._place(trial_id)
        request = DecodeRequest(decode_prompts(slot, prompts, virtual, max_new_tokens))
        return self._retry_smaller(lambda: self.executor.decode([request]), decoding=True)[0]

    def _place(self, trial_id: str | None) -> tuple[int, int]:
        """Return the slot and the number of virtual tokens of a trial, or of the untouched base (None)."""
        if trial_id is None:
            return self.shape.seats, 0
        seat = self.trials[trial_id]
        return seat.slot, seat.made.num_virtual_tokens

    def state(self, trial_id: str) -> bytes:
        """Return a checkpoint for this or another host: adapter, optimizer moments, step, position in the data."""
        return pack(self.trials[trial_id].state())

    def load(self, trial_id: str, state: bytes) -> None:
        self.trials[trial_id].load(unpack(state))

    def values(self, trial_id: str) -> dict[str, torch.Tensor]:
        """Return a copy of a trial's parameters: `prompt`, and `<module>.A` (r, in) and `<module>.B` (out, r)."""
        return self.trials[trial_id].values()

    def files(self, trial_id: str) -> dict[str, bytes]:
        """Return the adapter in PEFT's format, path -> content (see `InitialAdapter.files`)."""
        seat = self.trials[trial_id]
        return seat.made.files(seat.values())

    def save(self, trial_id: str, folder: str) -> None:
        """Write `files` into a folder."""
        write_files(folder, self.files(trial_id))

    def close(self, trial_id: str) -> None:
        """Free the seat and clear its slot; unknown ids are ignored."""
        self.drop(trial_id)
        seat = self.trials.pop(trial_id, None)
        if seat:
            self.stack.fill(seat.slot, {}, 0.0)
            self.optimizer.open(seat.slot)

    def shut(self) -> None:
        """Close all trials and remove the hooks from the base."""
        for trial_id in list(self.trials):
            self.close(trial_id)
        self.stack.remove()

    def _answer(self, jobs: Mapping[str, _Job]) -> None:
        """Answer requests of one kind (of training requests as many as fit in a batch) and divide the time."""
        executor, meter = self.executor, self.executor.meter
        methods: Mapping[type, Callable[[list[Any]], list[Any]]] = {
            StepRequest: executor.step,
            TrainRequest: executor.train,
            LogprobRequest: executor.logprob_lists,
            DecodeRequest: executor.decode,
        }
        requests: dict[str, Any] = {name: job.request for name, job in jobs.items()}
        kind = type(next(iter(requests.values())))

        def execute() -> dict[str, Any]:
            meter.restart_charges()
            chosen = executor.choose(requests) if kind is TrainRequest else requests
            return dict(zip(chosen, methods[kind](list(chosen.values())), strict=True))

        meter.begin()
        answers = self._retry_smaller(execute, decoding=kind is DecodeRequest)
        for name, seconds in zip(answers, meter.shares(len(answers)), strict=True):
            jobs[name].seconds += seconds
        for name, answer in answers.items():
            jobs[name].send(answer)
            jobs[name].seconds += meter.lap()

    def _retry_smaller(self, do: Callable[[], Answers], decoding: bool = False) -> Answers:
        """Call `do`, and after running out of memory again with half as many rows at a time, as often as allowed.

        Every forward pass of the base is run by this method. A call that ran out of memory has changed nothing.
        """
        while True:
            try:
                return do()
            except RuntimeError as error:
                if not is_out_of_memory(error) or not self.executor.halve(decoding):
                    raise


class _Job:
    """A round or an evaluation in progress: a generator, its current request, and the seconds charged to it.

    `translate` turns a query that the generator yields into a request. Once the generator has ended, `request` is None
    and `result` is its return value or its exception.
    """

    def __init__(self, generator: Requests, translate: Callable[[Complete | Read], Request]) -> None:
        self._generator, self._translate = generator, translate
        self.request: Request | None = None
        self.result: Any = None
        self.seconds = 0.0
        self.send(None)

    def send(self, answer: Any) -> None:
        try:
            failed = isinstance(answer, Exception)
            wanted = self._generator.throw(answer) if failed else self._generator.send(answer)
            self.request = self._translate(wanted) if isinstance(wanted, Complete | Read) else wanted
        except StopIteration as end:
            self.request, self.result = None, end.value
        except Exception as error:  # raised by this trial's learner or data: it ends this trial alone
            self.request, self.result = None, error
