"""The user's own configuration folder of Espalier: files that no other user of this machine may read or change."""

from __future__ import annotations

import os
from pathlib import Path


def config_folder() -> Path:
    """Return `$XDG_CONFIG_HOME/espalier`, or `~/.config/espalier`, created with mode 0700. Raise OSError if it fails.

    A relative XDG_CONFIG_HOME counts as unset, as its specification demands.
    """
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    folder = (given if given.is_absolute() else Path.home() / ".config") / "espalier"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)  # raises PermissionError if it belongs to another user
    return folder
