"""A base that is not frozen: LoRA on what reads the demonstrations for `efe`, trained through the context it gives.

One adapter serves all tasks of a learner (Hu et al. 2021, through PEFT); the base itself is copied and stays as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainables.models.loading import Base

Rows = Sequence[Sequence[int]]  # token ids of one task's demonstrations, one after the other
KEPT = 8  # tasks whose activations wait for the gradient; all of them to be read again would take half as long again


class Reader:
    """Features of demonstrations with a gradient. `state` and `load` hold the adapter and its moments."""

    def __init__(self, base: Base, r: int, learning_rate: float, seed: int) -> None:
        from peft import LoraConfig, get_peft_model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = LoraConfig(r=r, lora_alpha=2 * r, target_modules=base.target_modules())
            self._model: Any = get_peft_model(copy.deepcopy(base.model), adapter).eval()
        self._parameters = {name: value for name, value in self._model.named_parameters() if value.requires_grad}
        self._optimizer = torch.optim.AdamW(self._parameters.values(), lr=learning_rate, weight_decay=0.0)

    def features(self, tasks: Sequence[Rows], teaching: Sequence[bool]) -> Tensor:
        """(T, F): the mean over tokens of the last hidden state, then over a task's demonstrations, of unit length.

        Those that teach have a gradient. But for the first `KEPT`, the base's activations are not kept but computed
        again, bit for bit, so that tasks that share a batch, hundreds on a GPU, need not fit into memory together.
        """
        found, learning = [], 0
        for rows, teaches in zip(tasks, teaching, strict=True):
            with torch.set_grad_enabled(teaches and torch.is_grad_enabled()):
                learning += torch.is_grad_enabled()
                again = learning > KEPT
                found.append(checkpoint(self._read, rows, use_reentrant=False) if again else self._read(rows))
        return torch.cat(found)

    def _read(self, rows: Rows) -> Tensor:
        longest = max(len(row) for row in rows)
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self._model.device)
        lengths = torch.tensor([len(row) for row in rows], device=tokens.device)
        mask = torch.arange(longest, device=tokens.device) < lengths.unsqueeze(1)
        inner = self._model.get_base_model().base_model
        hidden = inner(tokens, attention_mask=mask.long(), use_cache=False).last_hidden_state.float()
        means = (hidden * mask.unsqueeze(2)).sum(1) / lengths.unsqueeze(1)
        return F.normalize(means.mean(0, keepdim=True), dim=1)

    def step(self) -> None:
        """One AdamW step on the gradients so far."""
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        return {"parameters": dict(self._parameters), "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(state["parameters"][name])
        self._optimizer.load_state_dict(state["optimizer"])
