"""Short names of the bases of a sweep of several: `tiny` for `builtin:tiny`, `qwen2_5-0_5b` for a model on the hub.

A label is a part of the names of pairs (`lora@tiny`), axes (`lora@tiny.r`), rows and files. So it has no dot, and is
unique in its sweep.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath

LONGEST = 40  # characters of each part
DTYPES = ("float32", "bfloat16", "float16")


def base_labels(bases: Sequence[str]) -> dict[str, str]:
    """Return a label for each base: its name; where several share that, with its options, then with its folder or
    owner, and at last with a number."""
    labels = {base: _name(base) for base in bases}
    for longer in (_with_options, _with_folder):
        labels = _longer(labels, longer)
    unique: dict[str, str] = {}
    for base, label in labels.items():
        names = (label, *(f"{label}-{number}" for number in range(2, 2 + len(bases))))
        unique[base] = next(name for name in names if name not in unique.values())
    return unique


def plain_base(base: str) -> str:
    """Return a base without the hash of its file and its dtype, which a sweep may have added: which model it is."""
    source, *options = base.split(":")
    return ":".join([source, *(one for one in options if one not in DTYPES and not one.startswith("sha256="))])


def _longer(labels: dict[str, str], longer: Callable[[str], str]) -> dict[str, str]:
    """Replace labels that several bases share."""
    shared = Counter(labels.values())
    return {base: longer(base) if shared[label] > 1 else label for base, label in labels.items()}


def _name(base: str) -> str:
    return _as_label([PurePath(_parts(base)[0]).name.removesuffix(".gguf")])


def _with_options(base: str) -> str:
    return _as_label([_name(base), *_parts(base)[1:]])


def _with_folder(base: str) -> str:
    return _as_label([PurePath(_parts(base)[0]).parent.name, _with_options(base)])


def _parts(base: str) -> list[str]:
    """Return the place of a base and its options: a built-in one by its name, a GGUF file by its own."""
    parts = [one for one in base.removeprefix("builtin:").split(":") if not one.startswith("sha256=")]
    return [one.removeprefix("gguf=").removesuffix(".gguf") if one.startswith("gguf=") else one for one in parts]


def _as_label(parts: Iterable[str]) -> str:
    plain = (re.sub(r"[^a-z0-9-]+", "_", part.lower()).strip("_-")[:LONGEST] for part in parts)
    return "-".join(filter(None, plain)) or "base"
