"""Tries the network inside namespaces of its own and prints what it saw, as JSON: for test_network.py."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from shared.adapters.kubernetes.transport import new_socket
from tests.chaos import network
from tests.chaos.faults.disks import empty, fill
from tests.chaos.network import Connection, Host, Loss, Network, connections, limited_disk

T = TypeVar("T")
_PORT: Final = 5000
_PATIENCE_S: Final = 0.6
_LATER_S: Final = 15.0
_GIVEN_UP_S: Final = 1.0
_LATE_S: Final = 4.0
_CLONE_NEWNET: Final = 0x40000000


def at(host: Host, work: Callable[[], T]) -> T:
    """Runs `work` in the host's network namespace, on a thread of its own: sockets stay where they were made."""
    result: list[T] = []

    def run() -> None:
        if host.namespace:
            with Path(f"/run/netns/{host.namespace}").open() as handle:
                if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
        result.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


class Talk:
    """A connection from one host to another, both ends in hand."""

    def __init__(self, server: socket.socket, here: Host, peer: Host) -> None:
        self.near = at(here, lambda: socket.create_connection((peer.address, _PORT), 5))
        self.far, _ = server.accept()

    def hear(self, end: socket.socket, within_s: float) -> list[str]:
        end.settimeout(within_s)
        try:
            return [end.recv(100).decode()]
        except TimeoutError:
            return []

    def ask(self, text: str, within_s: float = _PATIENCE_S) -> tuple[bool, list[str]]:
        """Whether the far end heard it, and what the near end got back."""
        self.near.sendall(text.encode())
        heard = self.hear(self.far, within_s)
        if heard:
            self.far.sendall(heard[0].encode())
        return bool(heard), self.hear(self.near, within_s)


def talk(server: socket.socket, here: Host, peer: Host) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    line = Talk(server, here, peer)
    _, seen["before"] = line.ask("before")
    with_loss = {"requests": Loss(here, peer), "answers": Loss(peer, here)}
    for what, loss in with_loss.items():
        loss.begin()
        seen[f"{what} heard"], seen[f"{what} lost"] = line.ask(what)
        loss.end()
        if not seen[f"{what} heard"]:
            line.far.sendall(line.hear(line.far, _LATER_S)[0].encode())
        assert line.hear(line.near, _LATER_S) == [what]  # the kernel sent it again
    _, seen["after"] = line.ask("after")
    half = Talk(server, here, peer)
    port = half.near.getsockname()[1]
    (mine,) = [c for c in at(here, lambda: list(connections(threading.get_native_id(), peer))) if c.local[1] == port]
    for loss in (Loss(peer, here, mine), Loss(here, peer, Connection(mine.remote, mine.local))):
        loss.begin()
    half.far.close()  # what the far end says of its end is lost too
    half.near.sendall(b"anybody?")
    seen["half open"], (_, seen["beside it"]) = half.hear(half.near, _PATIENCE_S), line.ask("beside")
    seen["closed"] = seen["half open"] == [""]
    return seen


def given_up(server: socket.socket, here: Host, peer: Host) -> list[str]:
    """What the far end hears, once the network is back, of a request that its sender's kernel gave up meanwhile."""
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", (peer.address, _PORT))
    near = at(here, lambda: new_socket(address, _GIVEN_UP_S))
    near.connect((peer.address, _PORT))
    far, _ = server.accept()
    lost = Loss(here, peer)
    lost.begin()
    near.sendall(b"late")
    time.sleep(2 * _GIVEN_UP_S)
    near.close()
    lost.end()
    far.settimeout(_LATE_S)
    try:
        return [far.recv(100).decode()]
    except (TimeoutError, ConnectionResetError):
        return []


def full_disk() -> dict[str, str]:
    seen = {}
    with tempfile.TemporaryDirectory() as name, limited_disk(Path(name), 4):
        fill(Path(name))
        for when in ("full", "emptied"):
            try:
                Path(name, "file").write_bytes(b"x" * 10_000)
                seen[when] = "written"
            except OSError as error:
                seen[when] = str(error.strerror)
            empty(Path(name))
    return seen


def main() -> None:
    if not network.inside():
        network.enter_namespaces("tests.chaos.network_trial", sys.argv[1:])
    made = Network()
    here = made.add("here")
    peers = {"elsewhere": made.add("elsewhere"), "router": made.add_local("router")}
    found: dict[str, Any] = {"disk": full_disk()}
    for name, peer in peers.items():
        server = at(peer, lambda peer=peer: socket.create_server((peer.address, _PORT)))  # type: ignore[misc]
        found[name] = {**talk(server, here, peer), "given up": given_up(server, here, peer)}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr)
    os._exit(0)
