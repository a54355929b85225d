"""The baseline of `packing.py`: a trial as people write it, PEFT's model and torch's AdamW in a process of its own.

It draws the same rows, asks the same questions and is judged by the same learner as a packed trial; the model work is
stock: `get_peft_model`, one forward pass per micro-batch, `clip_grad_norm_`, `generate` on a left-padded batch.
"""

from __future__ import annotations

from typing import Any

import peft
import torch

from trainables.bases import Base
from trainables.core import Pair


class PlainLearner:
    """One configuration on a base of its own: `round`, `evaluate`, `close`."""

    def __init__(self, base: Base, pair: Pair, seed: int) -> None:
        self.base, self.learner = base, pair.learner.build(base, pair.task, seed)
        adapter, settings = self.learner.adapter, self.learner.optimizer
        torch.manual_seed(seed)
        config = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=adapter.r,
            lora_alpha=adapter.lora_alpha,
            lora_dropout=adapter.lora_dropout,
            target_modules=list(adapter.target_modules) or None,
        )
        self.model = peft.get_peft_model(base.model, config)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
        )

    def round(self) -> dict[str, float]:
        losses = []
        for _ in range(self.learner.steps_per_round):
            rows = self.learner.next_rows()
            width = max(len(row.tokens) for row in rows)
            ids = torch.full((len(rows), width), self.base.eos)
            labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
            for i, row in enumerate(rows):
                ids[i, : len(row.tokens)] = torch.tensor(row.tokens)
                mask[i, : len(row.tokens)] = 1
                wanted = torch.tensor(row.labels)
                labels[i, : len(row.tokens)][wanted] = ids[i, : len(row.tokens)][wanted]
            device = self.base.device
            loss = self.model(input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device)).loss
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, self.learner.optimizer.max_grad_norm)
            self.optimizer.step()
            losses.append(loss.detach())
        return {"loss": torch.stack(losses).mean().item()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, Any]:
        prompts = self.learner.prompts("search")
        width = max(map(len, prompts))
        ids = torch.tensor([[self.base.eos] * (width - len(p)) + p for p in prompts], device=self.base.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.base.device)
        budget = self.learner.max_new_tokens
        made = self.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=budget, do_sample=False, pad_token_id=self.base.eos
        )[:, width:].tolist()
        ended = [self.base.eos in row for row in made]
        tokens = [row[: row.index(self.base.eos)] if end else row for row, end in zip(made, ended, strict=True)]
        return self.learner.judge("search", tokens, ended)

    def close(self) -> None:
        self.model.unload()
        self.base.model.requires_grad_(False)
