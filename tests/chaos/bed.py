"""What the faults are done to: three brokers, Redis, clusters, and every service, each where it can be cut off.

Everything is a child of this process and dies with it. A service that ends by itself is started again, as a kubelet
would, and that it did so is told.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.process import ServiceProcess
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import ALL_TOPICS
from shared.runtime.embedded import EmbeddedKafka, EmbeddedKafkaCluster, EmbeddedValkey, ValkeyConfig
from tests.chaos.broker_admin import in_sync_replicas
from tests.chaos.kinds import QUEUES
from tests.chaos.network import Host, Network, limited_disk
from tests.chaos.supervision import RESTART_S, Tell, keep_running
from tests.testbed import NodeShape, RealCluster, hub_cluster
from tests.testbed.process import together

HUB: Final = "hub"
_AGENTS: Final = ("watcher", "executor")
_SITE: Final = "site"
NODES: Final = NodeShape(cpu="3", memory="6Gi")
_REPLICATION: Final = 3
_STARTS_AT_ONCE: Final = 2  # a starting cluster keeps two cores busy
_BROKER_DISK_MB: Final = 1500
_REDIS_DISK_MB: Final = 64
_COMPLETE_S: Final = 120.0
# A cleaner that looks every second, so that forced compaction happens while it is forced; disks that fill quickly.
_BROKER: Final = {"log.cleaner.backoff.ms": "1000", "log.segment.delete.delay.ms": "5000"}
_SERVICES: Final = {
    "FLOTILLA_KAFKA_REPLICATION": str(_REPLICATION),
    "FLOTILLA_SCHEDULER_MOVE_AFTER_S": "3",
    # Sooner than by default, so that short runs see what returns, and what a lease fences.
    "FLOTILLA_SCHEDULER_STABLE_S": "15",
    "FLOTILLA_SCHEDULER_LEASE_MARGIN_S": "20",
    "FLOTILLA_SCHEDULER_QUEUES": json.dumps(QUEUES),
    "FLOTILLA_WATCHER_HEARTBEAT_S": "2",
}


@dataclass(frozen=True, slots=True)
class BedOptions:
    directory: Path
    clusters: int = 3
    nodes: int = 3
    hub: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"real-{number}" for number in range(1, self.clusters + 1))

    @property
    def site(self) -> str:
        """The cluster with agents of its own, which can be cut off with them; empty where there is but one."""
        return self.names[-1] if self.clusters > 1 else ""

    @property
    def agents(self) -> Mapping[str, tuple[str, ...]]:
        """The clusters of each watcher and executor."""
        shared = tuple(name for name in self.names if name != self.site)
        own = {f"{agent}-{self.site}": (self.site,) for agent in _AGENTS if self.site}
        return {**dict.fromkeys(_AGENTS, shared), **own}

    @property
    def services(self) -> tuple[str, ...]:
        hub = (HUB,) if self.hub else ()
        return ("scheduler", "scheduler-2", "status", *hub, *self.agents)


class Bed:
    """Enter `running` to have it; see the module."""

    def __init__(self, options: BedOptions, tell: Tell) -> None:
        self.options = options
        self._tell = tell
        self.network = Network()
        self.broker_hosts = [self.network.add(f"broker-{number}") for number in range(1, _REPLICATION + 1)]
        self.redis_host = self.network.add("redis")
        self.service_hosts = {name: self.network.add(name) for name in options.services}
        names = options.names
        self.cluster_hosts = {name: self.network.add_local(name) for name in (*names, *((HUB,) if options.hub else ()))}
        self.kafka = self._kafka()
        redis = self.redis_host.place
        self.redis = EmbeddedValkey(
            options.directory / "valkey", config=ValkeyConfig(port=6379, host=redis.host, enter=redis.enter)
        )
        self.clusters = {
            name: RealCluster(name, nodes=options.nodes, shape=NODES, host=self.cluster_hosts[name].address)
            for name in names
        }
        self.hub = hub_cluster(HUB, host=self.cluster_hosts[HUB].address) if options.hub else None
        self.fleet: LocalFleet
        self.log: KafkaLog
        # Services that a fault holds down: the supervisor leaves them alone.
        self.held: set[str] = set()

    def _kafka(self) -> EmbeddedKafkaCluster:
        kafka = EmbeddedKafkaCluster(self.options.directory / "kafka", _REPLICATION, overrides=_BROKER)
        hosts = dict(enumerate(self.broker_hosts, start=1))
        voters = ",".join(
            f"{node.config.node_id}@{hosts[node.config.node_id].address}:{node.config.controller_port}"
            for node in kafka.nodes
        )
        for node in kafka.nodes:
            place = hosts[node.config.node_id].place
            overrides = {**_BROKER, "controller.quorum.voters": voters}
            node.config = replace(node.config, host=place.host, enter=place.enter, overrides=overrides)
        return kafka

    # -- what there is -----------------------------------------------------------------------------------------------

    @property
    def services(self) -> Mapping[str, ServiceProcess]:
        return self.fleet.services

    @property
    def brokers(self) -> Mapping[str, EmbeddedKafka]:
        return {host.name: node for host, node in zip(self.broker_hosts, self.kafka.nodes, strict=True)}

    @property
    def api_servers(self) -> Mapping[str, RealCluster]:
        return {**self.clusters, **({HUB: self.hub} if self.hub else {})}

    @property
    def kafka_options(self) -> KafkaOptions:
        return KafkaOptions(bootstrap=self.kafka.bootstrap, replication=_REPLICATION)

    def host(self, name: str) -> Host:
        return self.network.hosts[name]

    # -- life --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self, say: Callable[[str], None]) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for host in self.broker_hosts:
                number = host.name.partition("-")[2]
                directory = self.options.directory / "kafka" / f"node-{number}"
                stack.enter_context(limited_disk(directory, _BROKER_DISK_MB))
            stack.enter_context(limited_disk(self.redis.data_dir, _REDIS_DISK_MB))
            say("starting three brokers, Redis and the clusters")
            await together((self._start_clusters(stack), self._start_brokers(stack)))
            self.log = await KafkaLog.connect(self.kafka_options, "chaos")
            stack.push_async_callback(self.log.close)
            say("starting the services")
            self.fleet = LocalFleet(
                FleetOptions(
                    directory=self.options.directory,
                    clusters=_Joined(self),
                    services=tuple(name for name in self.options.services if name != "scheduler-2"),
                    schedulers=2,
                    environment=_SERVICES,
                    kafka=self.kafka.bootstrap,
                    redis=self.redis.url,
                    places={name: host.place for name, host in self.service_hosts.items()},
                    own=self._own_environment(),
                )
            )
            await stack.enter_async_context(self.fleet)
            yield

    def _own_environment(self) -> dict[str, dict[str, str]]:
        """Of the agents of one cluster alone: where they find its kubeconfig."""
        site, directory = self.options.site, str(self.options.directory / _SITE)
        return {f"{agent}-{site}": {f"FLOTILLA_{agent.upper()}_KUBECONFIG_DIR": directory} for agent in _AGENTS if site}

    async def _start_brokers(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.kafka)
        await stack.enter_async_context(self.redis)

    async def _start_clusters(self, stack: AsyncExitStack) -> None:
        gate = asyncio.Semaphore(_STARTS_AT_ONCE)

        async def start(cluster: RealCluster) -> None:
            stack.push_async_callback(cluster.stop)
            async with gate:
                await cluster.start()

        await together(start(cluster) for cluster in self.api_servers.values())

    async def supervise(self) -> None:
        """Starts again what ended by itself, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervise_services())
            for cluster in self.api_servers.values():
                group.create_task(keep_running(cluster, self._tell))

    async def _supervise_services(self) -> None:
        while True:
            for name, service in self.services.items():
                if name not in self.held and not service.running:
                    self._tell(name, "failed", service.tail()[-1500:])
                    service.start()
                    self._tell(name, "started", "by the supervisor")
            await asyncio.sleep(RESTART_S)

    async def brokers_complete(self) -> bool:
        """Whether every broker lives and every partition of the fleet's topics has all its replicas in sync."""
        await self.kafka.wait_complete(_COMPLETE_S)
        commands = [f"fleet.commands.{name}" for name in self.clusters]
        topics = [*(topic.name for topic in ALL_TOPICS), *commands]
        in_sync = await in_sync_replicas(self.kafka.bootstrap, topics)
        return all(len(brokers) == _REPLICATION for brokers in in_sync.values())


class _Joined:
    """The bed's clusters as a source for the fleet: kubeconfigs for the agents, and one for the hub."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.kubeconfigs = bed.options.directory / "members"
        self.hub_kubeconfig = bed.options.directory / f"{HUB}.kubeconfig"

    @asynccontextmanager
    async def running(self, directory: Path, environment: Mapping[str, str]) -> AsyncIterator[None]:
        del directory, environment
        site = self._bed.options.directory / _SITE
        for name, cluster in self._bed.clusters.items():
            there = site if name == self._bed.options.site else self.kubeconfigs
            there.mkdir(parents=True, exist_ok=True)
            shutil.copy(cluster.kubeconfig, there / f"{name}.kubeconfig")
        if self._bed.hub is not None:
            shutil.copy(self._bed.hub.kubeconfig, self.hub_kubeconfig)
        yield
