"""Apache Kafka as part of the program: `async with EmbeddedKafka(directory) as kafka: kafka.bootstrap`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.runtime.embedded.broker import STOP_GRACE_S, Broker, live_brokers, read_cluster_id
from shared.runtime.embedded.errors import EmbeddedError, StartError
from shared.runtime.embedded.kafka_config import KafkaConfig, new_cluster_id
from shared.runtime.embedded.network import free_ports
from shared.runtime.embedded.prepare import prepare_kafka
from shared.runtime.embedded.process import ProcessId, ServerProcess
from shared.runtime.embedded.progress import Progress, silent
from shared.runtime.embedded.settings import EmbeddedSettings
from shared.runtime.embedded.waiting import until

_CLUSTER_DEADLINE_S = 60.0
_CLUSTER_GRACE_S = 10.0


class EmbeddedKafka:
    """One real broker with its data in `data_dir`, which outlives it: the next start finds the same records.

    A `port` of 0 is chosen at the first start and kept over later starts of the same object, so that clients find the
    broker again after a `kill` and `start`. `config` is for more than the port (clusters, heap, broker properties).
    Attached (the default), the broker ends with this process; detached, it lives on and is stopped by `process_id`.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        config: KafkaConfig | None = None,
        detached: bool = False,
        settings: EmbeddedSettings | None = None,
        progress: Progress = silent,
    ) -> None:
        if config is not None and port:
            raise ValueError("with a config, the port belongs into it")
        self.data_dir = data_dir
        self.config = config or KafkaConfig(port=port)
        self._detached = detached
        self._settings = settings
        self._progress = progress
        self._broker: Broker | None = None
        self._process: ServerProcess | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients, known once the broker was launched."""
        if not self.config.port:
            raise EmbeddedError("the broker was never launched")
        return self.config.bootstrap

    @property
    def process_id(self) -> ProcessId:
        """The broker's process; raises EmbeddedError if it was not launched or has been stopped."""
        if self._process is None:
            raise EmbeddedError("the broker is not launched")
        return self._process.identity

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    async def start(self) -> None:
        """Launch and wait until the broker serves.

        Raises:
            PartsMissingError: a part is neither on this machine nor to be had.
            DigestMismatchError: a jar is not the locked one.
            StartError: the broker ended or missed its deadline; it has been stopped.
        """
        await self.launch()
        await self.wait_ready()

    async def launch(self) -> None:
        """The first half of `start`: for callers that must note the process before they wait for it."""
        if self.running:
            raise EmbeddedError(f"the broker on {self.bootstrap} is already running")
        runtime = await prepare_kafka(self._settings, self._progress)
        self.config = _choose_ports(self.config)
        self._broker = Broker(self.data_dir, self.config, runtime, detached=self._detached)
        self._process = await self._broker.launch()

    async def wait_ready(self) -> None:
        """The second half of `start`. If it fails, by cancellation too, the broker has been stopped."""
        if self._broker is None or self._process is None:
            raise EmbeddedError("the broker is not launched")
        try:
            await self._broker.wait_ready(self._process)
        except BaseException:
            self.kill()
            raise

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """TERM, KILL after the grace; the data stays. Stopping a stopped broker does nothing."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop(grace_s=grace_s)

    def kill(self) -> None:
        """SIGKILL, as in a crash; `start` then recovers what was acknowledged."""
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


class EmbeddedKafkaCluster:
    """Several brokers as one cluster (three copies, two in sync), for tests of what one broker cannot show.

    `nodes` are full `EmbeddedKafka`: a test may kill and start each one. The directory may be started again later.
    `overrides` are broker properties of every node.
    """

    def __init__(
        self,
        data_dir: Path,
        size: int = 3,
        *,
        overrides: Mapping[str, str] | None = None,
        settings: EmbeddedSettings | None = None,
        progress: Progress = silent,
    ) -> None:
        ports = free_ports(2 * size)
        voters = {node: ports[size + node - 1] for node in range(1, size + 1)}
        cluster_id = _keep_cluster_id(data_dir)
        self.nodes = tuple(
            EmbeddedKafka(
                data_dir / f"node-{node}",
                config=KafkaConfig(
                    node_id=node,
                    port=ports[node - 1],
                    controller_port=voters[node],
                    voters=voters,
                    cluster_id=cluster_id,
                    overrides=overrides or {},
                ),
                settings=settings,
                progress=progress,
            )
            for node in voters
        )

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.nodes)

    async def __aenter__(self) -> Self:
        try:
            for node in self.nodes:  # one after the other: starting a JVM takes a core, and the first may install
                await node.launch()
            await asyncio.gather(*(node.wait_ready() for node in self.nodes))
            await self.wait_complete()
        except BaseException:
            for node in self.nodes:
                node.kill()
            raise
        return self

    async def wait_complete(self, deadline_s: float = _CLUSTER_DEADLINE_S) -> None:
        """Return when every running node counts every running node as live.

        Raises:
            StartError: not within the deadline.
        """
        running = [node for node in self.nodes if node.running]
        wanted = {node.config.node_id for node in running}
        cluster_id = read_cluster_id(self.nodes[0].data_dir / "storage")

        async def complete() -> bool:
            seen = [await live_brokers(node.config.port, cluster_id, host=node.config.host) for node in running]
            return all(wanted <= live for live in seen)

        if not await until(complete, within_s=deadline_s):
            raise StartError(f"the brokers did not find one another within {deadline_s:g} s")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Without a majority the last nodes cannot leave in order, so their grace is short; nothing is lost by KILL.
        await asyncio.gather(*(node.stop(grace_s=_CLUSTER_GRACE_S) for node in self.nodes))


def _choose_ports(config: KafkaConfig) -> KafkaConfig:
    port, controller_port = free_ports(2)
    return replace(config, port=config.port or port, controller_port=config.controller_port or controller_port)


def _keep_cluster_id(data_dir: Path) -> str:
    """One id for all nodes, also for a node that is formatted later."""
    path = data_dir / "cluster-id"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(new_cluster_id())
    return path.read_text()
