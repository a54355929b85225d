"""The folder of what Espalier can make again: models from GGUF files, features of ARC tasks, programs' answers."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/espalier`, or ~/.cache/espalier if that variable is not set to an absolute path.

    This is the XDG Base Directory Specification (https://specifications.freedesktop.org/basedir-spec).
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "espalier"
