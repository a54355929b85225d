"""An account at a server that answers as RunPod does, and a user who has its key."""

from __future__ import annotations

import pytest

from tests.support.api_server import KEY, Account


@pytest.fixture
def account(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Account()
    yield made
    made.close()
