"""Choosing loopback ports.

A port from `bind(0)` lies in the kernel's ephemeral range: between choosing it and the server's bind, any outgoing
connection on the machine may take it. So candidates are drawn from below that range and only checked by a bind.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import ExitStack

from shared.runtime.embedded.errors import EmbeddedError

LOOPBACK = "127.0.0.1"

_FIRST_PORT = 20_000
_LAST_PORT = 32_000  # Linux' ephemeral range begins at 32768, other systems' at 49152
_ATTEMPTS = 200


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        return _bind(probe, port)


def free_ports(count: int) -> tuple[int, ...]:
    """`count` distinct loopback ports on which nothing listens."""
    with ExitStack() as held:  # hold each port until all are chosen, so that they differ
        ports: list[int] = []
        for _ in range(_ATTEMPTS):
            if len(ports) == count:
                return tuple(ports)
            candidate = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
            if _bind(held.enter_context(socket.socket()), candidate):
                ports.append(candidate)
    raise EmbeddedError(f"no {count} free loopback ports between {_FIRST_PORT} and {_LAST_PORT}")


def _bind(candidate: socket.socket, port: int) -> bool:
    # As servers do it: without SO_REUSEADDR a port that has connections in TIME_WAIT would look taken.
    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        candidate.bind((LOOPBACK, port))
        candidate.listen(1)  # with SO_REUSEADDR it is `listen` that reports a listener on the same port
    except OSError:
        return False
    return True
