"""A base, with an adapter or without, that answers questions in its own words; what it said is kept (`answers.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeps.commands.endpoint.answer_cache import Answers, Reply, hash_of
from sweeps.spec.sweep import BadInput
from trainables.models.loading import BaseName


class OwnWords:
    """Samples of a base on this machine. `instructions` stand before every question; "" for a model that was trained
    to reason on the plain one."""

    def __init__(
        self, name: str, adapter: Path | None, folder: Path, instructions: str, temperature: float, max_tokens: int,
        seed: int, batch_size: int,
    ) -> None:  # fmt: skip
        self._name, self._adapter, self._instructions = name, adapter, instructions
        self._temperature, self._max_tokens, self._batch_size = temperature, max_tokens, batch_size
        self._answers = Answers(folder)
        self._fixed: dict[str, Any] = {
            "base": name, "adapter": str(adapter), "temperature": temperature, "max_tokens": max_tokens, "seed": seed,
            "weights": [_mark(Path(BaseName.parse(name).source)), _mark(adapter)],
        }  # fmt: skip

    def ask_all(self, questions: Sequence[str], sample: int = 0) -> list[Reply]:
        """The answers in order; those that are not kept yet are sampled, batch by batch, the shortest first."""
        prompts = [f"{self._instructions}\n\n{text}" if self._instructions else text for text in questions]
        keys = [hash_of(self._fixed | {"prompt": prompt, "sample": sample}) for prompt in prompts]
        prompt_of = dict(zip(keys, prompts, strict=True))
        kept = {key: reply for key in prompt_of if (reply := self._answers.get(key))}
        left = sorted(prompt_of.keys() - kept.keys(), key=lambda key: (len(prompt_of[key]), key))
        for start in range(0, len(left), self._batch_size):
            batch = left[start : start + self._batch_size]
            for key, reply in zip(batch, self._sample([prompt_of[k] for k in batch], batch[0]), strict=True):
                kept[key] = self._answers.put(key, self._name, reply)
        return [kept[key] for key in keys]

    def close(self) -> None:
        self._answers.close()

    @cached_property
    def _base(self) -> Any:
        from trainables.models.sampling import with_adapter  # here: torch

        try:
            return with_adapter(self._name, self._adapter)
        except ValueError as error:
            raise BadInput(str(error)) from error

    def _sample(self, prompts: Sequence[str], first: str) -> list[Reply]:
        from trainables.models.sampling import sample
        from trainables.models.tokenization import decode, encode_prompt

        tokenizer = self._base.tokenizer
        rows = [encode_prompt(tokenizer, prompt) for prompt in prompts]
        made = sample(self._base, rows, self._max_tokens, self._temperature, seed=int(first[:15], 16))
        return [
            Reply(decode(tokenizer, one.tokens), len(row), len(one.tokens), truncated=not one.ended)
            for row, one in zip(rows, made, strict=True)
        ]


def _mark(folder: Path | None) -> list[tuple[str, int, int]]:
    """What tells weights apart that lie in the same place one after the other; empty for a name on the hub."""
    files = sorted(folder.rglob("*.safetensors")) if folder and folder.is_dir() else []
    return [(str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files if folder]
