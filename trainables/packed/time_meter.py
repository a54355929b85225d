"""Whose a host's time is: what a batch of several seats takes is shared out by what each of them had computed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch


class Meter:
    """A stopwatch over answers to several requests at once: `begin`, `charge` after each part, and `shares` at the end.

    Requests go by their place among those that are answered together.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.begin()

    def begin(self) -> None:
        """From now on; what was charged is forgotten."""
        self._began = self._last = time.perf_counter()
        self._seconds: dict[int, float] = defaultdict(float)

    def again(self) -> None:
        """All is done again, in smaller parts: the time that it took so far will go to those who are charged."""
        self._seconds.clear()

    def charge(self, weights: Mapping[int, float]) -> None:
        """What has passed since the last charge goes to these requests, by weight. Waits for the device."""
        seconds, whole = self.lap(), sum(weights.values())
        for request, weight in weights.items():
            self._seconds[request] += seconds * weight / whole

    def lap(self) -> float:
        """Seconds since the last look. Waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        last, self._last = self._last, time.perf_counter()
        return self._last - last

    def shares(self, requests: int) -> list[float]:
        """Seconds of each of so many requests; they add up to the time since `begin`, which what was charged divides.
        Where nothing was, as all answers were known, it is divided equally."""
        self.lap()
        charged = [self._seconds[request] for request in range(requests)]
        whole, passed = sum(charged), self._last - self._began
        return [passed * own / whole if whole else passed / requests for own in charged]


def parts(work: Iterable[tuple[float, Sequence[int]]]) -> dict[int, float]:
    """Request -> how much it has had computed, of amounts of work and the requests that asked for each, which share it.

    Work is counted in tokens, with padding.
    """
    found: dict[int, float] = defaultdict(float)
    for amount, whose in work:
        for request in whose:
            found[request] += amount / len(whose)
    return found
