"""A small network of our own: each broker, Redis and each service has a network namespace, joined by a router.

    root of the bed (the router; the clusters' addresses are on its loopback)
      ├── veth ── broker-1 10.77.1.2      ├── veth ── redis     10.77.4.2
      ├── veth ── broker-2 10.77.2.2      ├── veth ── scheduler 10.77.5.2
      └── …

The whole run lives in namespaces of its own (`enter_namespaces` executes the program again under `unshare`), so it
touches nothing of the machine's network or mounts, and whatever it made is gone when its last process is.

A packet is lost by a routing rule in the namespace of its *receiver*: `from A to B blackhole` is looked at when the
packet comes in, and the kernel drops it without a word to anyone, as a broken cable would. So loss can be in one
direction, and of one connection alone. Needed are only `unshare`, `ip` and `nsenter`: neither iptables nor netem,
which this kernel may not have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from services.cli.fleet.process import Place

_INSIDE: Final = "FLOTILLA_CHAOS_INSIDE"
_NAMES: Final = Path("/run/netns")
_TOOLS: Final = ("ip", "nsenter", "unshare", "mount")
_DEADLINE_S: Final = 20.0
_ESTABLISHED: Final = "01"
# Rules are looked at in this order: what is lost, then what is ours, then the way to others.
_LOSS, _LOCAL = "10", "1000"


class NetworkError(RuntimeError):
    """The network cannot be made as it is needed; the message has what the tool said."""


def unavailable() -> str:
    """Why namespaces cannot be had here; empty if they can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found"
    probe = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    return probe.stderr.strip() if probe.returncode else ""


def inside() -> bool:
    """Whether this process lives in the run's own namespaces already."""
    return _INSIDE in os.environ


def enter_namespaces(module: str, arguments: Sequence[str]) -> NoReturn:
    """Become `python -m module arguments…` in a network and a mount namespace of its own, under the same pid."""
    command = [*_unshare(), sys.executable, "-m", module, *arguments]
    os.execve(command[0], command, {**os.environ, _INSIDE: "1"})  # noqa: S606  the same program again, elsewhere


def _unshare() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [_tool("unshare"), *user, "--net", "--mount", "--propagation", "private", "--"]


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NetworkError(f"{name} was not found")
    return path


def run_tool(*command: str) -> None:
    done = subprocess.run(
        [_tool(command[0]), *command[1:]], capture_output=True, text=True, timeout=_DEADLINE_S, check=False
    )
    if done.returncode:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Host:
    """One participant. `namespace` is empty for those at the router itself."""

    name: str
    address: str
    namespace: str = ""

    @property
    def place(self) -> Place:
        """Where to start a process so that it lives here."""
        enter = (_tool("nsenter"), f"--net={_NAMES / self.namespace}", "--") if self.namespace else ()
        return Place(self.address, enter)

    def ip(self, *arguments: str) -> None:
        run_tool("ip", *(("-n", self.namespace) if self.namespace else ()), *arguments)


@dataclass(frozen=True, slots=True)
class Connection:
    """An established TCP connection, as the host that has it sees it."""

    local: tuple[str, int]
    remote: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Loss:
    """Packets that `receiver` does not get; of one connection alone, where that is given, as the receiver sees it."""

    sender: Host
    receiver: Host
    connection: Connection | None = None

    def begin(self) -> None:
        self.receiver.ip("rule", "add", "pref", _LOSS, *self._match, "blackhole")

    def end(self) -> None:
        self.receiver.ip("rule", "del", "pref", _LOSS, *self._match, "blackhole")

    @property
    def _match(self) -> tuple[str, ...]:
        match = ("from", self.sender.address, "to", self.receiver.address)
        if self.connection is None:
            return match
        ports = ("sport", str(self.connection.remote[1]), "dport", str(self.connection.local[1]))
        return (*match, "ipproto", "tcp", *ports)


class Network:
    """Makes hosts. Only inside the run's own namespaces."""

    def __init__(self) -> None:
        if not inside():
            raise NetworkError("not inside namespaces of our own: this would change the machine's network")
        _NAMES.mkdir(parents=True, exist_ok=True)
        run_tool("mount", "-t", "tmpfs", "tmpfs", str(_NAMES))  # names that end with the mount namespace
        self.hosts: dict[str, Host] = {}
        router = Host("router", "10.77.0.1")
        router.ip("link", "set", "lo", "up")
        _local_rule_last(router)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def add(self, name: str) -> Host:
        """A host in a namespace of its own, which reaches every other."""
        number = len(self.hosts) + 1
        network = f"10.77.{number}"
        host = Host(name, f"{network}.2", name)
        run_tool("ip", "netns", "add", name)
        run_tool("ip", "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run_tool("ip", "addr", "add", f"{network}.1/30", "dev", f"v{number}")
        run_tool("ip", "link", "set", f"v{number}", "up")
        host.ip("addr", "add", f"{network}.2/30", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
        host.ip("link", "set", "lo", "up")
        host.ip("route", "add", "default", "via", f"{network}.1")
        _local_rule_last(host)
        self.hosts[name] = host
        return host

    def add_local(self, name: str) -> Host:
        """A host with an address of its own at the router."""
        number = len(self.hosts) + 1
        host = Host(name, f"10.77.0.{number + 1}")
        host.ip("addr", "add", f"{host.address}/32", "dev", "lo")
        self.hosts[name] = host
        return host


def _local_rule_last(host: Host) -> None:
    """The kernel asks its table of local addresses first (0); rules of loss must come before that."""
    host.ip("rule", "add", "pref", _LOCAL, "lookup", "local")
    host.ip("rule", "del", "pref", "0")


def connections(pid: int, remote: Host) -> Iterator[Connection]:
    """The established connections to `remote` in the network namespace of a process."""
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, far, state, *_ = line.split()
        if state == _ESTABLISHED and _address(far)[0] == remote.address:
            yield Connection(_address(local), _address(far))


def _address(text: str) -> tuple[str, int]:
    """From /proc/net/tcp: the address as a little-endian word, the port as it is read."""
    word, port = text.split(":")
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(word))), int(port, 16)


@contextmanager
def limited_disk(directory: Path, megabytes: int) -> Iterator[None]:
    """`directory` on a file system of its own and of that size, until the end."""
    directory.mkdir(parents=True, exist_ok=True)
    run_tool("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory))
    try:
        yield
    finally:
        run_tool("umount", "-l", str(directory))
