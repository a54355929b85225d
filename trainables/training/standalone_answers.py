"""What a trial with a model of its own answers its learner: completions and likelihoods, by stock PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from trainables.core import Complete, Completion, Read, Row
from trainables.models.hf_generate import generate_completions
from trainables.models.loading import Base
from trainables.training.dialogue import check_query
from trainables.training.oom import MAX_HALVINGS, is_out_of_memory
from trainables.training.sequence_packing import padded_right

EVALUATION_ROWS = 128  # prompts, or rows, at a time


class StandaloneAnswers:
    """A model and how it is asked. `halvings`: how often memory ran out, and half as many rows go at a time since."""

    base: Base
    model: Any
    device: torch.device
    _forward: Any  # the model, or what stands for it with others (`spread.py`)
    _in_step = False  # with others, when decoding
    halvings = 0

    def _answer(self, ask: Complete | Read) -> Any:
        """What the learner asks for (`core.Asking`)."""
        check_query(ask, 0, self.base)
        self.model.eval()
        with self.model.disable_adapter() if ask.untouched else nullcontext():
            return self._read(ask.rows) if isinstance(ask, Read) else self._said_to(ask)

    def _said_to(self, ask: Complete) -> list[Completion]:
        prompts = ask.prompts

        def some(own: Sequence[Sequence[int]]) -> list[Completion]:
            return generate_completions(self.model, own, self.base.eos, ask.max_new_tokens, synced_gpus=self._in_step)

        made = self._in_parts(some, prompts, sorted(range(len(prompts)), key=lambda i: len(prompts[i])))
        return [made[i] for i in range(len(prompts))]

    def _read(self, rows: Sequence[Row]) -> list[list[float]]:
        """The log-probability of each label, per row."""

        @torch.no_grad()
        def some(own: Sequence[Row]) -> list[list[float]]:
            return [row.tolist() for row in self.logprobs(own)]

        found = self._in_parts(some, rows, sorted(range(len(rows)), key=lambda i: len(rows[i].tokens)))
        return [found[i] for i in range(len(rows))]

    def _in_parts(self, do: Callable[[Sequence[Any]], list[Any]], things: Sequence[Any], order: Sequence[int]) -> Any:
        """What `do` makes of these things, by their place; of as many at a time as memory allows."""
        found: dict[int, Any] = {}

        def some() -> dict[int, Any]:
            own = order[len(found) :][: EVALUATION_ROWS >> self.halvings]
            return dict(zip(own, do([things[i] for i in own]), strict=True))

        while len(found) < len(order):
            found |= self._in_memory(some)
        return found

    def _in_memory(self, do: Callable[[], Any]) -> Any:
        """Again with half as many rows at a time where memory runs out, at most `HALVINGS` times in a trial."""
        while True:
            try:
                return do()
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.halvings == MAX_HALVINGS:
                    raise
                self.halvings += 1

    def logprobs(self, rows: Sequence[Row]) -> list[Tensor]:
        """Per row, the log-probability (nats) of each label; rows are padded on the right."""
        inputs = padded_right(rows, self.base.eos, self.model, self.device)
        places = [[i for i, label in enumerate(row.labels) if label] for row in rows]
        lanes = torch.tensor([lane for lane, own in enumerate(places) for _ in own], device=self.device)
        ends = torch.tensor([i for own in places for i in own], device=self.device)
        logits = self._forward(**inputs, use_cache=False).logits[lanes, ends - 1]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        tokens = inputs["input_ids"][lanes, ends]
        return list(wide.gather(1, tokens[:, None])[:, 0].split([len(own) for own in places]))
