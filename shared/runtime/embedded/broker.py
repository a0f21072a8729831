"""One Apache Kafka process in KRaft mode on a directory of its own.

    <data_dir>/storage/            Kafka's log directory: records, metadata, cluster and node id
    <data_dir>/server.properties   written at each start
    <data_dir>/logs/               console.log (this start), server.log (rolling), format.log

Invariants:
- `storage` is either complete or absent: it is formatted under another name and renamed.
- "Ready" means that this broker, known by its cluster and node id, answers a metadata request and counts itself among
  the live brokers. Whatever else may answer on the port does not count.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from shared.runtime.embedded.errors import EmbeddedError, StartError
from shared.runtime.embedded.jvm import JavaRuntime
from shared.runtime.embedded.kafka_config import KafkaConfig
from shared.runtime.embedded.network import LOOPBACK, port_is_free
from shared.runtime.embedded.process import ServerProcess

START_DEADLINE_S = 180.0  # it takes a second or two; beside forty others that want the core, more than one minute
STOP_GRACE_S = 30.0
_PROBE_DEADLINE_S = 2.0
_PROBE_CLIENT = "flotilla-readiness"


class Broker:
    """A broker whose ports are chosen and whose Java runtime is at hand."""

    def __init__(
        self,
        data_dir: Path,
        config: KafkaConfig,
        runtime: JavaRuntime,
        *,
        detached: bool = False,
        record_to: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.config = config
        self._runtime = runtime
        self._detached = detached
        self._record_to = record_to  # where the server (not the formatting) leaves a start-up cache

    @property
    def _storage(self) -> Path:
        return self.data_dir / "storage"

    @property
    def _logs(self) -> Path:
        return self.data_dir / "logs"

    async def launch(self) -> ServerProcess:
        """Format the storage if there is none and start the process, without waiting until it is ready."""
        for port in (self.config.port, self.config.controller_port):
            # Elsewhere than on loopback the address may be another namespace's: the broker itself will say so.
            if self.config.host == LOOPBACK and not port_is_free(port):
                raise EmbeddedError(f"port {port} on {LOOPBACK} is taken")
        if not self._storage.exists():
            await self._format()
        properties = self._write_properties("server.properties", self._storage)
        command = (*self.config.enter, *self._command("kafka.Kafka", str(properties), record_to=self._record_to))
        return self._spawn(command, "console.log", detached=self._detached)

    async def wait_ready(self, process: ServerProcess) -> None:
        """Return when the broker serves.

        Raises:
            StartError: it ended, or the deadline passed.
        """
        cluster_id = read_cluster_id(self._storage)

        async def probe() -> bool:
            return self.config.node_id in await live_brokers(self.config.port, cluster_id, host=self.config.host)

        await process.wait_ready(probe, name=f"Kafka on {self.config.bootstrap}", deadline_s=START_DEADLINE_S)

    async def _format(self) -> None:
        staging = self.data_dir / "storage.new"
        if staging.exists():  # of a start that was interrupted
            shutil.rmtree(staging)
        properties = self._write_properties("format.properties", staging)
        command = self._command(
            *("kafka.tools.StorageTool", "format"),
            *("--cluster-id", self.config.cluster_id, "--config", str(properties)),
            *self.config.scram_arguments(),
        )
        process = self._spawn(command, "format.log", detached=False)
        try:
            status = await process.wait(deadline_s=START_DEADLINE_S)
        finally:
            process.kill()
        if status != 0:
            raise StartError(f"Kafka's storage in {self.data_dir} could not be formatted{process.tail()}")
        staging.rename(self._storage)
        properties.unlink()

    def _command(self, main_class: str, *arguments: str, record_to: Path | None = None) -> tuple[str, ...]:
        return self._runtime.command(
            main_class, *arguments, heap_mb=self.config.heap_mb, logs=self._logs, record_to=record_to
        )

    def _spawn(self, command: tuple[str, ...], console: str, *, detached: bool) -> ServerProcess:
        return ServerProcess.spawn(
            command,
            data_dir=self.data_dir,
            console=self._logs / console,
            logs=(self._logs / "server.log",),
            detached=detached,
        )

    def _write_properties(self, name: str, storage: Path) -> Path:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        path = self.data_dir / name
        path.write_text("".join(f"{key}={value}\n" for key, value in self.config.properties(storage).items()))
        return path


def read_cluster_id(storage: Path) -> str:
    """The id that the storage was formatted with."""
    try:
        lines = (storage / "meta.properties").read_text().splitlines()
    except FileNotFoundError as error:
        raise EmbeddedError(f"{storage} has no meta.properties; it is not Kafka's storage") from error
    ids = [line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id=")]
    if len(ids) != 1:
        raise EmbeddedError(f"{storage} has no cluster id; it is not Kafka's storage")
    return ids[0]


async def live_brokers(port: int, cluster_id: str, *, host: str = LOOPBACK) -> frozenset[int]:
    """Node ids that the broker at `port` counts as live; none if it does not answer or is of another cluster."""
    try:
        async with asyncio.timeout(_PROBE_DEADLINE_S):
            connection = await create_conn(
                host, port, client_id=_PROBE_CLIENT, request_timeout_ms=int(_PROBE_DEADLINE_S * 1000)
            )
            try:
                metadata = await connection.send(MetadataRequest([]))
            finally:
                connection.close()
    except (OSError, KafkaError, TimeoutError):
        return frozenset()  # not yet: the caller's deadline decides how long that is acceptable
    if metadata.cluster_id != cluster_id:
        return frozenset()
    return frozenset(broker[0] for broker in metadata.brokers)
