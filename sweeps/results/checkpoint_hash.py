"""Identifies saved weights by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainables.bad_input import BadInput

CONFIGS = ("adapter_config.json", "config.json")


def checkpoint_hash(folder: str | Path) -> str:
    """Return 12 hex digits that are equal for equal weights and configurations, in whichever folder they are.

    The hash covers every safetensors file and its configuration, also in folders below (the halves of a hybrid). It
    equals the output of `sha256sum adapter_config.json adapter_model.safetensors | sha256sum`, paths sorted.

    Raises BadInput for a folder without weights.
    """
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.suffix == ".safetensors" or path.name in CONFIGS)
    if not any(path.suffix == ".safetensors" for path in files):
        raise BadInput(root, "holds no safetensors weights", "give the folder of an adapter or a model")
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(root).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
