"""Sample answers from a base on this machine, with an adapter or without one. Answers are kept (`answer_cache.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeps.commands.endpoint.answer_cache import AnswerCache, Reply, hash_of
from trainables.bad_input import BadInput
from trainables.models.loading import BaseName, origin


@dataclass(eq=False)
class BaseSampler:
    """Samples answers from a base. ValueError for a base's name that cannot be parsed."""

    name: str
    adapter: Path | None
    folder: InitVar[Path]  # where answers are kept
    instructions: str  # put before every question; empty for a model that was trained to reason without them
    temperature: float
    max_tokens: int  # tokens in an answer, at most
    seed: int
    batch_size: int

    def __post_init__(self, folder: Path) -> None:
        self._cache = AnswerCache(folder)
        # Everything beside prompt and sample number that an answer depends on. The names are part of the keys on disk.
        self._settings: dict[str, Any] = {
            "base": self.name,
            "adapter": str(self.adapter),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "weights": [_base_version(self.name), _weights_version(self.adapter)],
        }

    def ask_all(self, questions: Sequence[str], sample: int = 0) -> list[Reply]:
        """Return the answers in order. Those that are not cached are sampled in batches, the shortest prompts first."""
        prompts = [f"{self.instructions}\n\n{text}" if self.instructions else text for text in questions]
        keys = [hash_of(self._settings | {"prompt": prompt, "sample": sample}) for prompt in prompts]
        prompt_of = dict(zip(keys, prompts, strict=True))
        replies = {key: reply for key in prompt_of if (reply := self._cache.get(key))}
        missing = sorted(prompt_of.keys() - replies.keys(), key=lambda key: (len(prompt_of[key]), key))
        for start in range(0, len(missing), self.batch_size):
            batch = missing[start : start + self.batch_size]
            for key, reply in zip(batch, self._sample([prompt_of[k] for k in batch], batch[0]), strict=True):
                replies[key] = self._cache.put(key, self.name, reply)
        return [replies[key] for key in keys]

    def close(self) -> None:
        self._cache.close()

    @cached_property
    def _base(self) -> Any:
        from trainables.models.sampling import with_adapter  # imports torch

        try:
            return with_adapter(self.name, self.adapter)
        except ValueError as error:
            raise BadInput(str(error)) from error

    def _sample(self, prompts: Sequence[str], first_key: str) -> list[Reply]:
        """Sample one batch. The random seed comes from the first key of the batch, which depends on `seed`."""
        from trainables.models.sampling import sample
        from trainables.models.tokenization import decode, encode_prompt

        tokenizer = self._base.tokenizer
        rows = [encode_prompt(tokenizer, prompt) for prompt in prompts]
        made = sample(self._base, rows, self.max_tokens, self.temperature, seed=int(first_key[:15], 16))
        return [
            Reply(decode(tokenizer, one.tokens), len(row), len(one.tokens), truncated=not one.ended)
            for row, one in zip(rows, made, strict=True)
        ]


def _base_version(name: str) -> list[tuple[str, int, int]] | str:
    """Return what differs between contents of a base under one name: a GGUF file's sha256, else files of weights."""
    base = BaseName.parse(name)
    return origin(name) if base.gguf else _weights_version(Path(base.source))


def _weights_version(folder: Path | None) -> list[tuple[str, int, int]]:
    """Return name, size and time of each weights file, which differ if weights are replaced in place.

    Empty for a name on the hub.
    """
    files = sorted(folder.rglob("*.safetensors")) if folder and folder.is_dir() else []
    return [(str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files if folder]
