"""MLflow's pages as a person sees them: a real `espalier ui`, and what Chromium makes of an address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import pytest

from tests.support.driving import environment, wait_for
from tests.support.ports import answers, free_port

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """`espalier ui` in a folder with MLflow's database; its port, on which it answers."""
    port = free_port()
    command = [sys.executable, "-c", "from sweeps.cli.main import console; console()", "ui", "--mlflow-port", f"{port}"]
    variables = environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    page = subprocess.Popen(command, cwd=folder, env=variables, **quiet)
    try:
        wait_for(lambda: answers(port))
        yield port
    finally:
        page.terminate()
        page.wait(60)


def text_at(address: str, folder: Path, size: str = "2600,1200") -> str:
    """Return the text of a page after its scripts have run, one line for each element. `folder` gets a profile."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    flags += [f"--window-size={size}", "--virtual-time-budget=60000", "--dump-dom"]
    done = subprocess.run(
        [str(CHROMIUM), *flags, address],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | {"HOME": str(folder)},
    )
    bare = re.sub(r"<(script|style)\b.*?</\1>", "", done.stdout, flags=re.DOTALL)
    return "\n".join(filter(None, map(str.strip, unescape(re.sub(r"<[^>]+>", "\n", bare)).splitlines())))
