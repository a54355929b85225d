"""Measure a host's time, and divide the time of a batch among the trials in it by their computation."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch


class TimeMeter:
    """A stopwatch over the execution of several requests: `begin`, `charge` after each part, and `shares` at the end.

    Requests are numbered by their place among those that are executed together.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.begin()

    def begin(self) -> None:
        """Start the clock, and clear all charges."""
        self._began = self._last = time.perf_counter()
        self._seconds: dict[int, float] = defaultdict(float)

    def restart_charges(self) -> None:
        """Clear the charges but not the clock, as the work is repeated in smaller parts after memory ran out."""
        self._seconds.clear()

    def charge(self, weights: Mapping[int, float]) -> None:
        """Charge the time since the last charge to these requests, by weight. Waits for the device."""
        seconds, whole = self.lap(), sum(weights.values())
        for request, weight in weights.items():
            self._seconds[request] += seconds * weight / whole

    def lap(self) -> float:
        """Return the seconds since the last lap or charge. Waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        last, self._last = self._last, time.perf_counter()
        return self._last - last

    def shares(self, requests: int) -> list[float]:
        """Divide the time since `begin` among so many requests in proportion to their charges; return seconds.

        Without charges, as all answers were cached, it is divided equally.
        """
        self.lap()
        charged = [self._seconds[request] for request in range(requests)]
        whole, passed = sum(charged), self._last - self._began
        return [passed * own / whole if whole else passed / requests for own in charged]


def work_by_request(work: Iterable[tuple[float, Sequence[int]]]) -> dict[int, float]:
    """Sum amounts of work (tokens, padding included) by request. Requests in need of the same work share it equally."""
    found: dict[int, float] = defaultdict(float)
    for amount, requests in work:
        for request in requests:
            found[request] += amount / len(requests)
    return found
