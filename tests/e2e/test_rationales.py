"""`espalier rationales`, killed or interrupted, goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from sweeps.commands.endpoint.answer_cache import FILE
from tests.support.driving import environment
from tests.support.endpoint_kit import Server
from tests.support.rationales_kit import GOLD, knows, lines


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_it_goes_on(tmp_path, server, ending):
    """kill -9 or Ctrl-C among 24 questions: no file that could pass for a whole one; then only the rest is asked."""
    server.says, server.pause_s = knows, 0.1
    command = [sys.executable, "-c", "from sweeps.cli.main import console; console()", "rationales", "r.jsonl",
               "--task.train-size", "24", "--teacher", server.url, "--model", "mini", "--workers", "2"]  # fmt: skip
    run = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while len(server.chats) < 8:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    run.send_signal(ending)
    told = run.communicate()[1]
    if ending == signal.SIGINT:
        assert run.returncode == 130
        said = f"-c: interrupted; the same command continues from the answers in {FILE}"
        assert told.splitlines() == ["", said]
    server.wait_until_idle()
    assert not (tmp_path / "r.jsonl").exists()
    server.pause_s = 0.0
    again = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert len(lines(tmp_path / "r.jsonl")) == 24
    asked = Counter(body["messages"][-1]["content"] for body in server.chats)
    assert asked.keys() == GOLD.keys()
    assert asked.total() <= 24 + 2, "twice only what was on its way to either worker"
