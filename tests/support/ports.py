"""Ports of this machine."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port: int) -> bool:
    """Return whether a process listens on the port."""
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0
