"""Answer a learner's queries (completions and log-probabilities) from a model of its own, with stock PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from trainables.core import Complete, Completion, Draw, Read, Row
from trainables.models.hf_generate import generate_completions
from trainables.models.loading import Base
from trainables.training.dialogue import check_query
from trainables.training.oom import MAX_HALVINGS, is_out_of_memory
from trainables.training.sequence_packing import padded_right

EVALUATION_ROWS = 128  # prompts, or rows, at a time


class StandaloneAnswers:
    """Answers queries from `model`. `halvings`: how often the rows of a batch were halved as memory ran out."""

    base: Base
    model: Any
    device: torch.device
    _forward: Any  # the model, or its DDP wrapper
    _in_step = False  # whether processes must decode in step
    halvings = 0

    def _answer(self, query: Complete | Read) -> Any:
        """Answer a query (`core.Queries`)."""
        check_query(query, 0, self.base)
        self.model.eval()
        with self.model.disable_adapter() if query.untouched else nullcontext():
            return self._read(query) if isinstance(query, Read) else self._complete(query)

    def _complete(self, query: Complete) -> list[Completion]:
        items = [(prompt, query.draws[i] if query.draws else None) for i, prompt in enumerate(query.prompts)]

        def some(own: Sequence[tuple[Sequence[int], Draw | None]]) -> list[Completion]:
            prompts, draws = [prompt for prompt, _ in own], [draw for _, draw in own if draw is not None]
            count, in_step = query.max_new_tokens, self._in_step
            return generate_completions(self.model, prompts, self.base.eos, count, draws=draws, synced_gpus=in_step)

        made = self._in_parts(some, items, sorted(range(len(items)), key=lambda i: len(items[i][0])))
        return [made[i] for i in range(len(items))]

    def _read(self, query: Read) -> list[list[float]]:
        """Return, per row, the log-probability of each label."""
        rows = query.rows

        @torch.no_grad()
        def some(own: Sequence[Row]) -> list[list[float]]:
            return [row.tolist() for row in self.logprobs(own, query.temperature)]

        found = self._in_parts(some, rows, sorted(range(len(rows)), key=lambda i: len(rows[i].tokens)))
        return [found[i] for i in range(len(rows))]

    def _in_parts(self, do: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any], order: Sequence[int]) -> Any:
        """Call `do` on as many items at a time as memory allows, in this order; return the results by place."""
        found: dict[int, Any] = {}

        def some() -> dict[int, Any]:
            own = order[len(found) :][: EVALUATION_ROWS >> self.halvings]
            return dict(zip(own, do([items[i] for i in own]), strict=True))

        while len(found) < len(order):
            found |= self._retry_smaller(some)
        return found

    def _retry_smaller(self, do: Callable[[], Any]) -> Any:
        """Call `do`; if memory runs out, halve the rows and repeat, at most `MAX_HALVINGS` times in a trial."""
        while True:
            try:
                return do()
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.halvings == MAX_HALVINGS:
                    raise
                self.halvings += 1

    def logprobs(self, rows: Sequence[Row], temperature: float = 1.0) -> list[Tensor]:
        """Return, per row, the log-probability (nats) of each label; rows are padded on the right.

        Logits are divided by `temperature`.
        """
        inputs = padded_right(rows, self.base.eos, self.model, self.device)
        places = [[i for i, label in enumerate(row.labels) if label] for row in rows]
        lanes = torch.tensor([lane for lane, own in enumerate(places) for _ in own], device=self.device)
        ends = torch.tensor([i for own in places for i in own], device=self.device)
        logits = self._forward(**inputs, use_cache=False).logits[lanes, ends - 1]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        wide = (wide if temperature == 1 else wide / temperature).log_softmax(-1)
        tokens = inputs["input_ids"][lanes, ends]
        return list(wide.gather(1, tokens[:, None])[:, 0].split([len(own) for own in places]))
