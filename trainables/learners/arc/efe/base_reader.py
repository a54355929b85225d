"""LoRA on the base that computes features of demonstrations for `efe`, trained through the encoder's context.

One adapter serves all tasks of a learner (Hu et al. 2021, by PEFT). The base is copied, so the original is unchanged.
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
KEPT = 8  # tasks whose activations are kept for the gradient; to recompute all would take half as long again


class Reader:
    """Computes features of demonstrations with a gradient. Its state is the adapter and the optimizer's moments."""

    def __init__(self, base: Base, r: int, learning_rate: float, seed: int) -> None:
        from peft import LoraConfig, get_peft_model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = LoraConfig(r=r, lora_alpha=2 * r, target_modules=base.target_modules())
            self._model: Any = get_peft_model(copy.deepcopy(base.model), adapter).eval()
        self.trainable = {name: value for name, value in self._model.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.AdamW(self.trainable.values(), lr=learning_rate, weight_decay=0.0)

    def features(self, tasks: Sequence[Rows], teaching: Sequence[bool]) -> Tensor:
        """Return features (T, F) of unit length: the last hidden state, averaged over tokens and then demonstrations.

        Only tasks with `teaching` set have a gradient. Activations are kept for the first `KEPT` of them and
        recomputed, bit for bit, for the others, because a batch may hold hundreds of tasks on a GPU.
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
        """Take one AdamW step on the accumulated gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        return {"parameters": dict(self.trainable), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, value in self.trainable.items():
                value.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
