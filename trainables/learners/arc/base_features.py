"""Features of ARC tasks from a frozen base: one vector per task, computed once and read by all trials.

Each demonstration is one text, truncated to the base's length. Its feature is the mean over tokens of the last hidden
state; a task's feature is the mean over its demonstrations, whatever their order. Test inputs and outputs do not enter.

The features for one base and one set of demonstrations are cached in one Arrow IPC file. It is memory-mapped, so trials
on one machine share its pages. Its name is a hash of the base, its weights and the demonstrations' tokens. Devices and
versions of torch change only the last digits, so they are not part of the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock

from trainables.atomic import replacing
from trainables.cache import cache_folder
from trainables.models.loading import Base
from trainables.tasks.arc.grids import grid_text
from trainables.tasks.arc.task import Puzzle

TEXT = "Input:\n{source}\nOutput:\n{target}\n"
SAMPLES = 64  # values of each weight in the hash: enough to tell models apart without reading gigabytes

Sequences = dict[str, list[list[int]]]  # puzzle -> the token ids of its demonstrations, sorted


def features(base: Base, puzzles: Mapping[str, Puzzle], folder: Path | None = None) -> dict[str, np.ndarray]:
    """Return a read-only float32 vector (hidden_size,) per puzzle; compute it if it is not cached in `folder`.

    `folder`: by default `$XDG_CACHE_HOME/espalier/features`, that is ~/.cache/espalier/features. If several processes
    need the same file, one computes it and the others wait. An unreadable file is computed again. Raises ValueError for
    a puzzle without demonstrations.
    """
    if not puzzles:
        return {}
    sequences = {name: tokens_of(base, name, puzzle) for name, puzzle in sorted(puzzles.items())}
    folder = folder or cache_folder() / "features"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_key(base, sequences)}.arrow"
    with FileLock(f"{path}.lock"):  # the operating system releases it if the process dies
        if not _readable(path):
            _write(path, {name: _feature(base, rows) for name, rows in sequences.items()})
        return _read(path)


def tokens_of(base: Base, name: str, puzzle: Puzzle) -> list[list[int]]:
    """Return the token ids of each demonstration's text, sorted so that their order changes no bit of the feature."""
    if not puzzle.demonstrations:
        raise ValueError(f"puzzle {name!r} has 0 demonstrations; features need at least one")
    limit = getattr(base.model.config.get_text_config(), "max_position_embeddings", None)
    texts = (TEXT.format(source=grid_text(a), target=grid_text(b)) for a, b in puzzle.demonstrations)
    return sorted(base.tokenizer(text, truncation=limit is not None, max_length=limit).input_ids for text in texts)


@torch.no_grad()
def _feature(base: Base, rows: list[list[int]]) -> np.ndarray:
    """Return a task's feature. The head is skipped: logits of all tokens would take a hundred times the memory."""
    means = []
    for row in rows:
        tokens = torch.tensor([row], device=base.device)
        means.append(base.model.base_model(tokens, use_cache=False).last_hidden_state[0].float().mean(0))
    return torch.stack(means).mean(0).cpu().numpy()


def _key(base: Base, sequences: Sequences) -> str:
    """Return the cache's file name. Token ids cover the text, its format, the tokenizer and the truncation."""
    digest = hashlib.sha256(json.dumps([base.name, sequences]).encode())
    for name, weight in base.model.named_parameters():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        values = weight.detach().flatten()[:: max(1, weight.numel() // SAMPLES)]
        digest.update(values.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _write(path: Path, found: dict[str, np.ndarray]) -> None:
    """Write the file under another name and rename it, so that it is never seen incomplete."""
    rows = np.stack(list(found.values()))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    batch = pa.record_batch([pa.array(list(found)), vectors], names=["puzzle", "feature"])
    with replacing(path) as fresh, pa.OSFile(str(fresh), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _readable(path: Path) -> bool:
    try:
        _read(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return views of the mapped file. The mapping lives as long as a view, even if the file is deleted."""
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    vectors = batch.column("feature")
    rows = vectors.flatten().to_numpy(zero_copy_only=True).reshape(len(vectors), -1)
    return dict(zip(batch.column("puzzle").to_pylist(), rows, strict=True))
