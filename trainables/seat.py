"""A seat's adapter on a base: made, saved and removed by PEFT, which alone knows its formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch

from trainables.bases import Base
from trainables.core import Adapter

LORA_FOLDER, PROMPT_FOLDER = "lora", "soft_prompt"


class SeatAdapter:
    """LoRA, a soft prompt, or both, on one base. `prompt` has shape (num_virtual_tokens, hidden_size), or is None."""

    def __init__(self, base: Base, adapter: Adapter, seed: int) -> None:
        self._base, self._adapter = base, adapter
        self._lora: Any = None
        self._prompt: Any = None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if adapter.num_virtual_tokens:
                self._prompt = peft.get_peft_model(base.model, self._prompt_config())
            if adapter.r:
                self._lora = peft.get_peft_model(base.model, self._lora_config())
        self.prompt: torch.nn.Parameter | None = None
        if self._prompt is not None:
            self.prompt = self._prompt.prompt_encoder["default"].embedding.weight

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Trainable parameters by name: `prompt`, and A and B of every LoRA module."""
        own = {} if self.prompt is None else {"prompt": self.prompt}
        lora = {n: p for n, p in self._base.model.named_parameters() if p.requires_grad}
        return own | lora

    def dropout(self, on: bool) -> None:
        """The adapter's own dropout; the frozen base is always in evaluation mode."""
        for name, module in self._base.model.named_modules():
            if "lora_dropout" in name:
                module.train(on)

    def save(self, folder: str) -> None:
        """PEFT's format: the adapter itself, or for a hybrid its two halves in `lora/` and `soft_prompt/`.

        Load one with `PeftModel.from_pretrained(model, folder)`; a hybrid's LoRA first, merged
        (`.merge_and_unload()`), then its soft prompt.
        """
        both = self._lora is not None and self._prompt is not None
        for model, part in ((self._lora, LORA_FOLDER), (self._prompt, PROMPT_FOLDER)):
            if model is not None:
                model.save_pretrained(str(Path(folder) / part) if both else folder)

    def close(self) -> None:
        """Give the base back untouched."""
        if self._lora is not None:
            self._lora.unload()
        self._lora = self._prompt = self.prompt = None
        self._base.model.requires_grad_(False)

    def _lora_config(self) -> peft.LoraConfig:
        adapter = self._adapter
        return peft.LoraConfig(
            task_type=peft.TaskType.CAUSAL_LM,
            r=adapter.r,
            lora_alpha=adapter.lora_alpha,  # type: ignore[arg-type]  # PEFT says int and takes any number
            lora_dropout=adapter.lora_dropout,
            target_modules=list(adapter.target_modules) or self._base.target_modules(),
            fan_in_fan_out=self._base.model.config.model_type == "gpt2",  # its Conv1D keeps weights transposed
        )

    def _prompt_config(self) -> peft.PromptTuningConfig:
        init = {"random": peft.PromptTuningInit.RANDOM, "vocab": peft.PromptTuningInit.SAMPLE_VOCAB}
        return peft.PromptTuningConfig(
            task_type=peft.TaskType.CAUSAL_LM,
            num_virtual_tokens=self._adapter.num_virtual_tokens,
            prompt_tuning_init=init[self._adapter.prompt_init],
        )
