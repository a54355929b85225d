"""A secret key of this user on this machine, with which Espalier signs what it will unpickle again."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from cluster.user_config import config_folder
from trainables.bad_input import BadInput

KEY_BYTES = 32


def secret_key(name: str) -> bytes:
    """Return the 32 bytes of a key file in the configuration folder. It is made, with mode 0600, at the first call.

    Raises BadInput if it cannot be kept there, or is not 32 bytes long.
    """
    try:
        file = config_folder() / name
        if not file.exists():
            _write_once(file, secrets.token_bytes(KEY_BYTES))
        key = file.read_bytes()
    except OSError as error:
        place = error.filename or "~/.config/espalier"
        raise BadInput(
            f"{place}:", f"{error.strerror}", "set XDG_CONFIG_HOME to a folder in which a key can be kept"
        ) from error
    if len(key) != KEY_BYTES:
        raise BadInput(file, f"has {len(key)} bytes and not {KEY_BYTES}", "delete it, and a new key is made")
    return key


def _write_once(file: Path, content: bytes) -> None:
    """Write a file that appears whole, with mode 0600. Of several processes at once, the first one wins."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
    try:
        with suppress(FileExistsError):
            os.link(fresh, file)
    finally:
        fresh.unlink()
