"""The user's own configuration folder: secrets that belong to a person on this machine, and to no sweep."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from sweeps.spec.validation import BadInput

KEY_BYTES = 32


def config_folder() -> Path:
    """Return `$XDG_CONFIG_HOME/espalier` or `~/.config/espalier`, made with mode 0700 if it is not there.

    Raises BadInput if it cannot be made, or if another user owns it.
    """
    given = os.environ.get("XDG_CONFIG_HOME", "")
    root = Path(given) if os.path.isabs(given) else Path.home() / ".config"  # as the XDG specification says
    folder = root / "espalier"
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise BadInput(f"{folder} belongs to another user; set XDG_CONFIG_HOME to a folder of your own")
        folder.chmod(0o700)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made: {error.strerror}; set XDG_CONFIG_HOME to another folder") from error
    return folder


def secret_key(name: str) -> bytes:
    """Return the 32 bytes of a key file in the configuration folder. It is made, with mode 0600, at the first call.

    Raises BadInput if it cannot be read, or is not 32 bytes long.
    """
    file = config_folder() / name
    try:
        if not file.exists():
            _write_once(file, secrets.token_bytes(KEY_BYTES))
        key = file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}; the key of this user cannot be kept there") from error
    if len(key) != KEY_BYTES:
        raise BadInput(f"{file} has {len(key)} bytes and not {KEY_BYTES}; delete it, and a new key is made")
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
