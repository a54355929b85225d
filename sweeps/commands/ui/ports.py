"""Which port of this machine is free."""

from __future__ import annotations

import socket

from sweeps.results.terminal import print
from trainables.bad_input import BadInput

LAST = 65535
TRIED = 100  # ports


def free_port(wanted: int, flag: str, but: int = 0) -> int:
    """Return a port, or the next free one, and say so if it is taken. `but` is no choice.

    Raises BadInput for a number that is no port, and if it and the next hundred are taken.
    """
    if not 1 <= wanted <= LAST:
        raise BadInput(f"{flag} {wanted}: ports are 1 to {LAST}")
    for port in range(wanted, min(wanted + TRIED, LAST + 1)):
        if port != but and _is_free(port):
            if port != wanted:
                print(f"port {wanted} is taken: {port} is used in its place", flush=True)
            return port
    raise BadInput(f"{flag} {wanted}: this port and the next {TRIED} are taken; choose another")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was closed a moment ago is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:  # taken, or below 1024 and only for root
            return False
    return True
