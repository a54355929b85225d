"""A pickle that leaves a file if anything loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Planted:
    """Pickled, it is a call of `Path.touch`: whatever unpickles it creates the file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)
