"""Replace `~` in paths that a person gives."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return a path with its `~` replaced; as it is if that home is not known, for which `Path.expanduser` raises."""
    return Path(os.path.expanduser(path))
