"""Chromium as a person uses it: pages that are drawn, a pointer that moves and clicks, light and dark.

It is driven by the DevTools protocol over a pair of pipes (https://chromedevtools.github.io/devtools-protocol/), for
which no package is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.driving import wait_for

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
MEASURES = Path(__file__).with_name("measure_page.js")
WAIT_S = 120  # for an answer of the browser


class Page:
    """A tab. `requests` are the addresses that it asked for, and `errors` what its scripts could not do."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing, self._waiting = reading, writing, b""
        self._number, self._session = 0, ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": values}
        asked |= {"sessionId": self._session} if self._session else {}
        os.write(self._writing, json.dumps(asked).encode() + b"\0")
        end = time.monotonic() + WAIT_S
        while True:
            assert time.monotonic() < end, f"no answer to {method}"
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, (method, told["error"])
                return dict(told["result"])
            self._hear(told)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            got = os.read(self._reading, 1 << 16)
            assert got, "the browser has ended"
            self._waiting += got
        message, _, self._waiting = self._waiting.partition(b"\0")
        return dict(json.loads(message))

    def _hear(self, told: dict[str, Any]) -> None:
        known = told.get("params", {})
        if told["method"] == "Network.requestWillBeSent":
            self.requests.append(known["request"]["url"])
        elif told["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(known["exceptionDetails"]))
        elif told["method"] == "Log.entryAdded" and known["entry"]["level"] == "error":
            self.errors.append(known["entry"]["text"])

    def look(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window, and whether the user prefers dark pages."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Open a page of a sweep, and wait until its plots are drawn."""
        self.call("Page.navigate", url=address)
        self.wait("document.body?.dataset.drawn !== undefined")
        self.value(MEASURES.read_text())

    def wait(self, script: str) -> None:
        """Wait until a JavaScript expression is true."""
        try:
            wait_for(lambda: self.value(f"Boolean({script})"), timeout_s=100)
        except AssertionError as error:
            shown = self.value("`${location.href} ${document.readyState}: ${document.body?.innerText.slice(0, 400)}`")
            raise AssertionError(f"{script} did not come true; {self.errors}; the page is {shown}") from error

    def value(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def point_at(self, script: str, click: bool = False) -> None:
        """Move the pointer to the middle of an element, which an expression returns, and click there."""
        self.value(f"({script}).scrollIntoView({{block: 'center'}})")
        box = self.value(f"(({{ x, y, width, height }}) => [x, y, width, height])(({script}).getBoundingClientRect())")
        at = {"x": box[0] + box[2] / 2, "y": box[1] + box[3] / 2}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def click(self, script: str) -> None:
        self.point_at(script, click=True)


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, whose profile is in `folder`."""
    theirs_in, writing = os.pipe()
    reading, theirs_out = os.pipe()
    # The browser reads from its file descriptor 3 and writes to 4.
    words = [
        "bash",
        "-c",
        f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}',
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={folder}/profile",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = subprocess.Popen(words, pass_fds=(theirs_in, theirs_out), env=os.environ | {"HOME": str(folder)}, **quiet)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(reading, writing)
    finally:
        browser.terminate()
        browser.wait(60)
        os.close(reading)
        os.close(writing)
