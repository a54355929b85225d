"""A trial with a model of its own, trained with stock PyTorch, for methods that cannot share a frozen base.

Full fine-tuning changes the base itself, and methods that only PEFT implements put modules of their own into it. The
learner gives rows and scores completions exactly as in a host (`LanguageLearner`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map  # private: tests/e2e/test_private_names.py

from trainables.checks.trial_warnings import modules_without_gradient
from trainables.core import Evaluation, LanguageLearner, RoundResult, Row, Split
from trainables.models.adapter_config import order_configs
from trainables.models.loading import Base
from trainables.states import pack, unpack
from trainables.training.dialogue import run_queries
from trainables.training.hash_dropout import lane_key
from trainables.training.neftune import noisy
from trainables.training.oom import gradients
from trainables.training.optimizers import Optim, load_optimizer_state, open_adamw, paged_parameters, second_moment
from trainables.training.round_metrics import RoundMetrics, shares, timed_evaluation, timed_round
from trainables.training.row_masks import RowDropout
from trainables.training.sequence_packing import check_packed_rows
from trainables.training.standalone_answers import StandaloneAnswers


class StandaloneLearner(StandaloneAnswers):
    """A `Learner`: AdamW on the parameters of `model` that require gradients.

    `close` calls `remove_peft`, which restores a base that was modified. Dropout and noise depend on the trial's seed,
    the step and the row, so a resumed round equals an uninterrupted one, and dividing a batch changes nothing.
    `optim`: which AdamW (`optimizers.py`).
    """

    def __init__(
        self,
        base: Base,
        model: Any,
        learner: LanguageLearner,
        seed: int,
        remove_peft: Callable[[], None] | None = None,
        optim: Optim = "adamw_torch",
    ) -> None:
        self.base, self.model, self.learner, self.seed, self.on_close = base, model, learner, seed, remove_peft
        self.device, self.optim = base.device, optim
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ValueError(f"no parameter of {base.name} is to be trained; let some require gradients")
        self.optimizer = open_adamw(optim, list(self.parameters.values()), learner.optimizer)
        self._steps = self.halvings = 0
        self._forward, self._in_step = model, False  # both differ in `DistributedLearner`

    def round(self) -> RoundResult:
        """Take `steps_per_round` optimizer steps. Metrics as of `Host.round`; times are wall-clock times."""
        start = time.perf_counter()
        run_queries(self.learner.prepare(), self._answer)
        collected, first = RoundMetrics(), self._steps == 0
        for _ in range(self.learner.steps_per_round):
            if not collected.add(*self._update()):
                break
        metrics: dict[str, Any] = self._halving_metrics()
        metrics |= {"paged_parameters": paged_parameters(self.optimizer)} if self.optim != "adamw_torch" else {}
        metrics |= {"without_gradient": modules} if first and (modules := self._without_gradient()) else {}
        result = collected.result(self._steps, sum(p.numel() for p in self.parameters.values()))
        return timed_round(result.with_metrics(metrics), time.perf_counter() - start)

    def evaluate(self, split: Split = "search") -> Evaluation:
        """Let the learner score greedy completions, made by transformers' `generate`, and likelihoods."""
        start = time.perf_counter()
        evaluation = run_queries(self.learner.evaluate(split), self._answer).with_metrics(self._halving_metrics())
        return timed_evaluation(evaluation, time.perf_counter() - start)

    def state(self) -> bytes:
        kept = {
            "parameters": {name: self._kept(p.detach()) for name, p in self.parameters.items()},
            "optimizer": tree_map(self._kept, self.optimizer.state_dict()),
            "steps": self._steps,
            "learner": self.learner.state(),
        }
        return pack(kept)

    @torch.no_grad()
    def load(self, state: bytes) -> None:
        kept = unpack(state)
        for name, value in kept["parameters"].items():
            self.parameters[name].copy_(self._part(value, self.parameters[name]))
        places = list(self.parameters.values())
        for place, moments in kept["optimizer"]["state"].items():
            own = [name for name in ("exp_avg", "exp_avg_sq") if name in moments]
            moments |= {name: self._part(moments[name], places[place]) for name in own}
        load_optimizer_state(self.optimizer, kept["optimizer"])
        self._steps = kept["steps"]
        self.learner.load(kept["learner"])

    def save(self, folder: str) -> None:
        """Write the model in transformers' format, or the adapter in PEFT's."""
        self.model.save_pretrained(folder)
        order_configs(Path(folder))

    def close(self) -> None:
        if self.on_close:
            self.on_close()

    def _update(self) -> tuple[float, float, int]:
        """Take an optimizer step if loss and norm are finite; return mean loss, norm before clipping, and tokens."""
        run_queries(self.learner.prepare_step(), self._answer)
        self.model.train()
        settings, leaves = self.learner.optimizer, list(self.parameters.values())
        self.optimizer.zero_grad()
        batches = [self.learner.next_rows() for _ in range(settings.gradient_accumulation_steps)]
        rows = [row for own in batches for row in own]
        self.base.check_tokens([row.tokens for row in rows], self.learner.adapter.num_virtual_tokens)
        check_packed_rows(rows, self.learner.adapter.num_virtual_tokens, self.base)
        losses = [
            share * self.backward(own, micro, share)
            for micro, (own, share) in enumerate(zip(batches, shares(self.learner, batches), strict=True))
        ]
        norm = self._whole(torch.nn.utils.clip_grad_norm_(leaves, settings.max_grad_norm))
        mean, size = torch.stack([torch.stack(losses).sum(), norm.to(losses[0])]).tolist()
        if math.isfinite(mean) and math.isfinite(size):
            for group in self.optimizer.param_groups:
                group["lr"] = settings.learning_rate * settings.lr_factor(self._steps)
            self.optimizer.step()
            self._steps += 1
        return mean, size, sum(len(row.tokens) for row in rows)

    def backward(self, rows: Sequence[Row], micro: int, share: float) -> Tensor:
        """Add `share` times a micro-batch's gradient, as many rows at a time as memory allows; return its loss."""
        leaves = list(self.parameters.values())
        losses: list[Tensor] = []

        def loss(logprobs: list[Tensor]) -> Tensor:
            losses[:] = [self.learner.loss(logprobs, rows)]
            return losses[0]

        def forward(first: int, last: int) -> list[Tensor]:
            return self._seeded_logprobs(rows[first:last], micro, first)

        def found() -> list[Tensor | None]:
            return gradients(forward, loss, leaves, len(rows), max(1, len(rows) >> self.halvings))

        for parameter, gradient in zip(leaves, self._retry_smaller(found), strict=True):
            if gradient is not None:
                own = gradient * share
                parameter.grad = own if parameter.grad is None else parameter.grad + own
        return losses[0].detach()

    def _seeded_logprobs(self, rows: Sequence[Row], micro: int, first: int) -> list[Tensor]:
        """Return log-probabilities with dropout and noise that do not depend on how a batch is divided.

        `first` is the place of the first row. Other random decisions of a model, such as skipping a layer, are equal
        for all parts of a micro-batch.
        """
        alpha, steps = self.learner.optimizer.neftune_noise_alpha, self._steps
        keys = [lane_key(self.seed, steps, micro, first + i) for i in range(len(rows))]
        key_R = torch.tensor(keys, dtype=torch.int32, device=self.device)
        seeded = _seeded(hash((self.seed, steps, micro)))
        with seeded, RowDropout(key_R), noisy(self.model, rows, key_R, alpha):
            return self.logprobs(rows, self.learner.temperature)

    def _halving_metrics(self) -> dict[str, int]:
        return {"memory_halvings": self.halvings} if self.halvings else {}

    def _without_gradient(self) -> list[str]:
        """Return the modules whose second moments are all zero."""
        moments = {name: second_moment(self.optimizer.state.get(p, {})) for name, p in self.parameters.items()}
        return modules_without_gradient(
            {name: own is not None and bool(self._whole(own).any()) for name, own in moments.items()}
        )

    def _whole(self, value: Any) -> Any:
        """Return the whole tensor; in `DistributedLearner` a device may have a part."""
        return value

    def _kept(self, value: Any) -> Any:
        """Copy a tensor of a state to the CPU, one at a time: a device has no memory for all of them twice."""
        return self._whole(value).cpu() if isinstance(value, Tensor) else value

    def _part(self, value: Tensor, of: Tensor) -> Tensor:
        """Return this device's part of a whole tensor, divided as `of` is."""
        return value


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators in this context, and restore them afterwards."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def with_peft(
    base: Base, config: Any, learner: LanguageLearner, seed: int, optim: Optim = "adamw_torch"
) -> StandaloneLearner:
    """Put a PEFT adapter into the base; `close` removes it. `config` is a `peft.PeftConfig`."""
    from peft import get_peft_model

    from trainables.models.peft_adapters import remove_peft

    try:
        with _seeded(seed):
            model = get_peft_model(base.model, config)
        return StandaloneLearner(base, model, learner, seed, lambda: remove_peft(base.model), optim)
    except Exception:
        remove_peft(base.model)
        raise
