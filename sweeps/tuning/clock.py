"""The time of a sweep with `--minutes`: when its search has to end, and when all of it."""

from __future__ import annotations

import time

from sweeps.tuning.design import END, END_S, Design

ASSUMED = 0.25  # of the search: so many seconds at the design's pace count beside the pace so far


class Clock:
    """Divides the seconds until `end` (of `time.monotonic`) between search and finalists as a design does."""

    def __init__(self, design: Design, end: float) -> None:
        self.design = design
        now = time.monotonic()
        self._end = end - END_S - END * (end - now)
        share = design.search_s / (design.search_s + design.finalists_s)
        self._search_end = now + share * max(0.0, self._end - now)
        self._began: float | None = None  # when the first round was done
        self._before = 0  # rounds that were done before

    @property
    def is_search_over(self) -> bool:
        return time.monotonic() >= self._search_end

    @property
    def left(self) -> float:
        """The seconds until the sweep has to end, the report still to come; at least 0."""
        return max(0.0, self._end - time.monotonic())

    def rounds(self, done: int, running: int) -> float:
        """Return how many rounds the search will have done at its end.

        `done` rounds are done, and `running` more are under way. The pace so far counts, and beside it the design's: at
        the beginning few trials run, and those that do wait for their processes.
        """
        now = time.monotonic()
        if self._began is None and done > self._before:
            self._began, self._before = now, done
        left = max(0.0, self._search_end - now)
        if self._began is None:
            self._before = done
            return done + left / self.design.round_s
        assumed_s = ASSUMED * self.design.search_s
        rounds = assumed_s / self.design.round_s + done - self._before + running
        return done + rounds / (assumed_s + now - self._began) * left

    def pace(self, done: int) -> float | None:
        """Return the seconds of a round of the search, all trials that ran side by side together; None before one."""
        new = done - self._before
        return (time.monotonic() - self._began) / new if self._began is not None and new else None
