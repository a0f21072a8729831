"""One service of a local fleet: `python -m services.<name>` as a child that dies with its parent."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from shared.runtime.embedded.errors import EmbeddedError
from shared.runtime.embedded.network import LOOPBACK, free_ports
from shared.runtime.embedded.process import ServerProcess

ROOT = Path(__file__).resolve().parents[3]
_GRACE_S = 25.0
_PROBE_S = 2.0


class FleetError(Exception):
    """A part of the local fleet did not start or stay up; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service runs: the address that it listens on, and what goes before its command line to get there.

    `enter` must become the command by exec, as `nsenter --net=…` does.
    """

    host: str = LOOPBACK
    enter: tuple[str, ...] = ()


HERE = Place()


class ServiceProcess:
    """A service that can be started, asked, killed and started again, on one health port.

    `program` is what Python is given at the next start: another version of the service may follow this one.
    """

    def __init__(
        self, name: str, module: str, environment: Mapping[str, str], directory: Path, place: Place = HERE
    ) -> None:
        self.name = name
        self.place = place
        self.program: tuple[str, ...] = ("-m", module)
        (self._port,) = free_ports(1)
        self._environment = {
            **os.environ,
            **environment,
            "PYTHONPATH": str(ROOT),
            "FLOTILLA_HTTP_HOST": place.host,
            "FLOTILLA_HTTP_PORT": str(self._port),
            "FLOTILLA_LOG_FORMAT": "json",
        }
        self._directory = directory / name
        self.log = directory / f"{name}.log"
        self._starts = 0
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """Where it serves /healthz, /readyz and /metrics."""
        return f"http://{self.place.host}:{self._port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        return self._started.identity.pid

    def start(self) -> None:
        """Must run on the main thread: the child is tied to the thread that starts it."""
        self._starts += 1
        # Each start has a log of its own, so that the one of a crash is still there behind a restart.
        if self._starts > 1:
            self.log.rename(self.log.with_suffix(f".{self._starts - 1}.log"))
        self._process = ServerProcess.spawn(
            [*self.place.enter, sys.executable, *self.program],
            data_dir=self._directory,
            console=self.log,
            detached=False,
            env=self._environment,
        )

    async def wait_ready(self, deadline_s: float = 180.0) -> None:
        """Returns when /readyz says so. Raises FleetError."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_S)) as session:

            async def probe() -> bool:
                try:
                    async with session.get(f"{self.url}/readyz") as response:
                        return response.status == 200
                except (aiohttp.ClientError, TimeoutError):
                    return False

            try:
                await self._started.wait_ready(probe, name=self.name, deadline_s=deadline_s)
            except EmbeddedError as error:
                raise FleetError(str(error)) from error

    async def metrics(self) -> str:
        """Its Prometheus metrics, as text."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_S)) as session,
            session.get(f"{self.url}/metrics") as response,
        ):
            return await response.text()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(grace_s=_GRACE_S)

    def kill(self) -> None:
        """SIGKILL: the crash that tests want."""
        self._started.kill()

    def signal(self, number: signal.Signals) -> None:
        """Any signal, such as SIGSTOP and SIGCONT."""
        self._started.identity.signal(number)

    def tail(self) -> str:
        return self._started.tail()

    @property
    def _started(self) -> ServerProcess:
        if self._process is None:
            raise FleetError(f"{self.name} was not started")
        return self._process
