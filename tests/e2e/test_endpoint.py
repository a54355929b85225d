"""A client of an endpoint that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.support.driving import environment
from tests.support.endpoint_kit import CLIENT, KEY, Server, echo


@pytest.fixture
def server():
    made = Server(says=echo)
    yield made
    made.close()


def test_a_killed_client_asks_only_what_is_missing(tmp_path, server):
    """kill -9 in the middle of 40 questions: what was answered then is there, and is not asked again."""
    server.pause_s = 0.1
    command = [sys.executable, "-c", CLIENT, server.url, str(tmp_path), "40"]
    env = environment() | {"OPENAI_API_KEY": KEY}
    client = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while len(server.chats) < 12:
        assert client.poll() is None, client.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    client.send_signal(signal.SIGKILL)
    client.communicate()
    server.wait_until_idle()  # it still answers what was under way
    server.pause_s, before = 0.0, len(server.chats)
    assert before < 40
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    replies = again.stdout.splitlines()
    assert [line.rsplit(" ", 1)[0] for line in replies] == [f"to question {n}: well" for n in range(40)]
    kept = sum(line.endswith("True") for line in replies)
    assert before - 2 <= kept <= before, "of two workers at most two answers were on their way"
    assert len(server.chats) - before == 40 - kept
