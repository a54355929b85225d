"""Events on disk, delivered in order by one thread: whoever appends never waits for whoever receives.

`append` writes a line and returns. The thread reads lines from the file, not from the caller's memory, so what was not
delivered when a process died is delivered by the next one that opens the folder. Delivery is at least once: after a
failure the same events come again, so a receiver must take an event twice without harm.
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


class EventQueue:
    """A folder with `events.jsonl` and `delivered` (how many bytes of it have arrived, and where). One owner at a time.

    `deliver` gets a list of events and raises if they did not all arrive; `trouble` gets what it raised. `receiver` is
    an address: where it is another than last time, nothing has arrived yet.
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
        read_events(self.path)  # cuts off a half-written line
        self._file = self.path.open("ab", buffering=0)  # a buffer would keep what a full disk refused, for later
        self._written = self.path.stat().st_size
        arrived, _, where = self._mark.read_text().partition(" ") if self._mark.exists() else ("0", "", receiver)
        self._delivered = min(int(arrived), self._written) if where == receiver else 0
        self._changed = threading.Condition()
        self._begun = self._failed = 0  # attempts begun, and which of them was the last to fail
        self._asked = self._heard = 0  # flushes asked for, and how many of them the present attempt knows of
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._thread.start()

    def append(self, event: Event) -> None:
        """Keep an event. Returns once it is in the file; OSError if it cannot be written, and then none of it is."""
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
        """Whether something has not been delivered yet."""
        with self._changed:
            return self._delivered < self._written

    def flush(self, timeout_s: float) -> bool:
        """Try now, and wait until all is delivered, an attempt fails or time is up. Whether all was delivered."""
        with self._changed:
            begun = self._begun
            self._asked += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._delivered >= self._written or self._failed > begun, timeout_s)
            return self._delivered >= self._written

    def close(self, timeout_s: float) -> bool:
        """`flush`, then end the thread. What was not delivered stays on disk."""
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
                self._deliver(events)
                self._remember(end)
                wait_s = 1.0
            except Exception as error:  # whatever a receiver raises: it is down, and the events are safe
                with suppress(Exception):  # standard error may be closed: events are delivered all the same
                    self._trouble(error)
                with self._changed:
                    self._failed = self._begun
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._closing or self._asked > self._heard, wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _next(self) -> bool:
        """Wait until there is something to deliver; False when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._delivered < self._written)
            self._begun, self._heard = self._begun + 1, self._asked
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
    """All events of a file. A line that a killed process left half-written is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]
