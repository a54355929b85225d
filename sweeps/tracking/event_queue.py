"""A queue of events on disk. One thread delivers them in order, so `append` never waits for the receiver.

`append` writes a line and returns. The thread reads the file, so events that were not delivered when a process died are
delivered by the next process that opens the folder. Delivery is at least once: after a failure the same events are sent
again, so a receiver must handle an event twice without harm.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Event = dict[str, Any]
BATCH = 500  # events handed over at once
LONGEST_WAIT_S = 15.0  # between two attempts while the receiver is down


class Forgotten(Exception):
    """Raised by a receiver that has lost what was delivered to it before, as one whose database was replaced."""


class EventQueue:
    """A folder with `events.jsonl` and `delivered` (how many bytes were delivered, and where). One owner at a time.

    `deliver` gets a list of events and raises if they did not all arrive; `trouble` gets the exception. After
    `Forgotten` all events are delivered again, and if `receiver`, an address, has changed since the folder was opened.
    """

    def __init__(
        self,
        folder: Path,
        receiver: str,
        deliver: Callable[[list[Event]], None],
        trouble: Callable[[Exception], None],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self._mark = folder / "events.jsonl", folder / "delivered"
        self._receiver, self._deliver, self._trouble = receiver, deliver, trouble
        read_events(self.path)  # removes a half-written line
        self._file = self.path.open("ab", buffering=0)  # a buffer would keep bytes that a full disk refused
        self._written = self.path.stat().st_size
        arrived, _, where = self._mark.read_text().partition(" ") if self._mark.exists() else ("0", "", receiver)
        self._delivered = min(int(arrived), self._written) if where == receiver else 0
        self._changed = threading.Condition()
        self._begun = self._failed = 0  # number of attempts, and the number of the last one that failed
        self._flushes = self._seen_flushes = 0  # calls of `flush`, and how many of them preceded the current attempt
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="event-queue", daemon=True)
        self._thread.start()

    def append(self, event: Event) -> None:
        """Write an event to the file. Raises OSError if that fails; the file is then as before."""
        line = rest = json.dumps(event, default=str).encode() + b"\n"
        with self._changed:
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(self._written)
                raise
            self._written += len(line)
            self._changed.notify_all()

    @property
    def waiting(self) -> bool:
        """Return whether there are undelivered events."""
        with self._changed:
            return self._delivered < self._written

    def flush(self, timeout_s: float) -> bool:
        """Deliver now. Return whether all was delivered when an attempt failed or the time was up."""
        with self._changed:
            begun = self._begun
            self._flushes += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._delivered >= self._written or self._failed > begun, timeout_s)
            return self._delivered >= self._written

    def close(self, timeout_s: float) -> bool:
        """Flush, and end the thread. Return whether all was delivered; the rest stays on disk."""
        done = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if done:
            self._thread.join()
        self._file.close()
        return done

    def _work(self) -> None:
        wait_s = 1.0
        while self._next():
            try:
                events, end = self._read()
                try:
                    self._deliver(events)
                except Forgotten:
                    end = 0
                self._remember(end)
                wait_s = 1.0
            except Exception as error:  # the receiver is down, and the events are safe
                with suppress(Exception):  # standard error may be closed; deliver the events nevertheless
                    self._trouble(error)
                with self._changed:
                    self._failed = self._begun
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._closing or self._flushes > self._seen_flushes, wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _next(self) -> bool:
        """Wait for events to deliver. Return False if the queue is closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._delivered < self._written)
            self._begun, self._seen_flushes = self._begun + 1, self._flushes
            return not self._closing

    def _read(self) -> tuple[list[Event], int]:
        with self.path.open("rb") as file:
            file.seek(self._delivered)
            lines = [line for _, line in zip(range(BATCH), file, strict=False) if line.endswith(b"\n")]
        return [json.loads(line) for line in lines], self._delivered + sum(map(len, lines))

    def _remember(self, end: int) -> None:
        fresh = self._mark.with_suffix(".new")
        fresh.write_text(f"{end} {self._receiver}")
        os.replace(fresh, self._mark)
        with self._changed:
            self._delivered = end
            self._changed.notify_all()


def read_events(path: Path) -> list[Event]:
    """Return all events of a file. Remove a line that a killed process left half-written."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return whole_events(content)


def whole_events(content: bytes) -> list[Event]:
    """Return the events of a file's content, without half a line at its end."""
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
