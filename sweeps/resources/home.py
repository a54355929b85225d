"""Give a user without a home folder another: Ray, MLflow, the hub's libraries and Espalier itself look for one."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

from cluster.user_config import user_folder
from trainables.cache import cache_folder
from trainables.home import expanded

MODELS = "huggingface"  # the hub's folder in the user's cache, if HF_HOME names no other


def settle_home() -> str:
    """Give this process, and those that it starts, a home, a cache, a configuration folder and a user's name.

    What can be used stays. In place of a home that is missing or cannot be written to, HOME names a folder of this user
    in /tmp, and so do XDG_CACHE_HOME and XDG_CONFIG_HOME; models that lie in such a cache are still read. Return a line
    that says what is used instead, or an empty string. Call this before Ray is imported, which asks for a home then.
    If /tmp cannot be used either, HOME is the root folder, and the first file that is written there ends the command.
    """
    _settle_name()
    home, unusable, models = expanded("~"), list[str](), None
    try:
        if home.is_absolute():
            models = cache_folder().with_name(MODELS)
        if models is None or not is_writable(home):
            unusable.append(f"HOME ({home if home.is_absolute() else f'user {os.getuid()} has none'})")
            os.environ["HOME"] = str(_made("home"))
        if not is_writable(cache_folder().parent):
            unusable.append(f"XDG_CACHE_HOME ({cache_folder().parent})")
            os.environ["XDG_CACHE_HOME"] = str(_made("cache"))
        if not (user_folder().is_dir() or is_writable(user_folder())):
            unusable.append(f"XDG_CONFIG_HOME ({user_folder().parent})")
            os.environ["XDG_CONFIG_HOME"] = str(_made("config"))
    except OSError as error:
        os.environ["HOME"] = "/"
        return f"{unusable[0]} is no folder that can be written to, nor is there another ({error}); set HOME to one"
    if unusable and models and models.is_dir():
        os.environ.setdefault("HF_HOME", str(models))
    if not unusable:
        return ""
    what = f"{', '.join(unusable)} is no folder that can be written to"
    return f"{what}; {private_folder()} is used instead, and may be cleared"


def _settle_name() -> None:
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # of Python 3.11, and of 3.13
        os.environ["USER"] = f"user-{os.getuid()}"


def _made(name: str) -> Path:
    folder = private_folder() / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, or the folder itself in the first that exists above it."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def private_folder() -> Path:
    """Return this user's folder for what need not last, /tmp/espalier-UID, created with mode 0700.

    It is in $TMPDIR if nobody may write to /tmp. Ray opens its session folders, with sockets and logs, to every user of
    the machine. The path is short because Ray names sockets below it, and a socket's path has at most 107 bytes. Raise
    OSError if another user has the folder, or if it cannot be made.
    """
    folder = Path("/tmp" if is_writable(Path("/tmp")) else tempfile.gettempdir()) / f"espalier-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to another user")
    folder.chmod(0o700)
    return folder
