"""The user's own configuration folder of Espalier: files that no other user of this machine may read or change."""

from __future__ import annotations

import os
from pathlib import Path


def user_folder() -> Path:
    """Return `$XDG_CONFIG_HOME/espalier`, or `~/.config/espalier`, which may not be there.

    A relative XDG_CONFIG_HOME counts as unset, as its specification demands.
    """
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".config") / "espalier"


def config_folder() -> Path:
    """Return `user_folder`, created with mode 0700. Raise OSError if it fails."""
    folder = user_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:  # else it may be on a disk that is only read
        folder.chmod(0o700)  # raises PermissionError if it belongs to another user
    return folder
