"""One component as a process: start it, wait until it is ready, stop it, kill it, freeze it, start it again.

Nothing here belongs to an event loop (plain `subprocess`, waits that poll), so that a cluster started by a session-wide
fixture can be stopped and restarted from tests that run in loops of their own. Signals go to pids that this object
started and has not reaped, never to a name or a group.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

LAUNCH: Final = Path(__file__).with_name("launch.py")
REPOSITORY: Final = Path(__file__).resolve().parents[2]
POLL_S: Final = 0.05
LOG_TAIL_BYTES: Final = 6000

_alive: weakref.WeakSet[Component] = weakref.WeakSet()


class ComponentError(RuntimeError):
    """A component ended or was not ready in time; the message has the end of its log."""


class Port:
    """A free port of a local address, held until `release`, so that nobody else gets it while a component is down.

    The socket is bound but never listens: a component that binds with SO_REUSEPORT shares the port, and connections
    are refused while there is none, exactly as for a server that is gone.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((host, 0))
        self.number: int = self._socket.getsockname()[1]

    def __str__(self) -> str:
        return str(self.number)

    def release(self) -> None:
        self._socket.close()


class Component:
    """A command, its log file and, while it runs, its process."""

    def __init__(self, name: str, command: list[str], log: Path, ready: Callable[[], Awaitable[bool]]) -> None:
        self.name = name
        self.command = command
        self.log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the process runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        if self.running:
            raise ComponentError(f"{self.name} is running already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,  # for `python -m tests...`; every path in the commands is absolute
                process_group=0,  # Ctrl-C in a terminal must reach the test run alone, which stops this in order
            )
        _alive.add(self)

    async def start(self, timeout: float) -> None:  # noqa: ASYNC109  a deadline that names the component
        """Launch and wait until it is ready."""
        self.launch()
        await self.wait_ready(timeout)

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  likewise
        deadline = time.monotonic() + timeout
        while not await self._ready():
            if not self.running:
                code = self._process.returncode if self._process else "never started"
                raise ComponentError(f"{self.name} ended ({code}) before it was ready:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ComponentError(f"{self.name} was not ready within {timeout:.0f} s:\n{self.tail()}")
            await asyncio.sleep(POLL_S)

    async def stop(self, grace: float) -> None:
        """TERM, then KILL after `grace` seconds; returns when the process is reaped."""
        if not self.running:
            return
        self.send(signal.SIGCONT)  # a frozen process would not see the next signal
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.running and time.monotonic() < deadline:  # noqa: ASYNC110  the kernel sets no asyncio.Event
            await asyncio.sleep(POLL_S)
        self.kill()

    def kill(self) -> None:
        """kill -9 and reap."""
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait(10)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def tail(self) -> str:
        """The end of the log."""
        if not self.log.exists():
            return "(no log)"
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def resident_bytes(self) -> int:
        """Resident memory, 0 where it is not running or the system has no /proc."""
        status = Path(f"/proc/{self.pid}/status")
        if self.pid is None or not status.exists():
            return 0
        line = next((x for x in status.read_text().splitlines() if x.startswith("VmRSS:")), "VmRSS: 0 kB")
        return int(line.split()[1]) * 1024


async def together(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run at once; the first failure cancels the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


@atexit.register
def _kill_what_was_left() -> None:
    for component in list(_alive):
        component.kill()
