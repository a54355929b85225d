"""How a sweep script ends, and the exit status that reports it."""

from __future__ import annotations

from typing import Literal

# "left": the sweep continues on a cluster, and this process no longer watches it.
Ended = Literal["finished", "left", "failed", "interrupted"]

EXIT_STATUS: dict[Ended, int] = {"finished": 0, "left": 0, "failed": 1, "interrupted": 130}
BAD_INPUT_STATUS = 2
