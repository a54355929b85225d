"""What is wrong with a base, found before anything starts, and the words that files and errors are told in."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainables.bad_input import BadInput

LFS_POINTER = b"version https://git-lfs.github.com/spec"
HINTS = {  # how a file starts that is not what its name says -> what it is, and the remedy
    LFS_POINTER: "is a pointer of Git LFS, not the file itself; run `git lfs pull` in its folder",
    b"<": "is a web page, not the file itself; download the file again, with `hf download`",
}


class BaseFault(BadInput):
    """A base cannot be used; the message says why and what to do, without the base's name, in one line."""


def check_content(path: Path) -> None:
    """Raise BaseFault for a file that is empty, cannot be read, or stands in for the file that should be there."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise BaseFault(
            f"{path.name} cannot be read ({error.strerror}); give it the rights, or copy it again"
        ) from error
    if not start.strip():
        raise BaseFault(f"{path.name} is empty; copy or download it again")
    for begin, hint in HINTS.items():
        if start.lstrip().startswith(begin) and path.suffix != ".jinja":
            raise BaseFault(f"{path.name} {hint}")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raise BaseFault if it does not."""
    check_content(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else first_line(error)
        raise BaseFault(f"{path.name} is no JSON ({where}); mend it, or copy it from the original model") from error
    if not isinstance(content, dict):
        raise BaseFault(f"{path.name} holds no JSON object; copy it from the original model")
    return content


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says anything, whole, or the error's type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Hide transformers' progress bars, warnings and reports about weights, which are told in one line."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
