"""Simulates clusters that the fleet declares and that nobody has joined: what a cloud would do on `kubectl create`.

A declared cluster whose name already sends heartbeats from elsewhere is left alone; one that was made here goes when
its declaration is taken back.
"""

from __future__ import annotations

import asyncio

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup, NodeTaint
from shared.events.registry import DecodeError, decode
from shared.events.topics import CLUSTERS, OBJECTS
from shared.events.v1.clusters import ClusterDeclared
from shared.model.identities import PROVIDER_LABEL, REGION_LABEL, heartbeat_cluster
from shared.observability.logs import get_logger
from shared.ports.event_log import START, EventLog, Record

log = get_logger(__name__)

_READ_S = 0.5


class Provisioner:
    def __init__(self, events: EventLog, simulator: Simulator) -> None:
        self._events = events
        self._simulator = simulator
        self._declared: dict[str, ClusterDeclared] = {}
        self._joined: set[str] = set()
        self._made: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Follows declarations and heartbeats until stopped. Raises LogError."""
        reader = await self._events.reader("simulator")
        try:
            partitions = [p for topic in (CLUSTERS.name, OBJECTS.name) for p in await self._events.partitions(topic)]
            await reader.assign(dict.fromkeys(partitions, START))
            ends = await reader.end_offsets(partitions)
            while not stop.is_set():
                for record in await reader.read(max_records=5000, timeout_s=_READ_S):
                    self._observe(record)
                # Only once all heartbeats are known can it be said that nobody has joined.
                if all(position >= ends[partition] for partition, position in reader.positions().items()):
                    await self._converge()
        finally:
            await reader.close()

    def _observe(self, record: Record) -> None:
        key = record.key or b""
        if record.topic == OBJECTS.name:
            if (cluster := heartbeat_cluster(key)) is not None:
                (self._joined.discard if record.value is None else self._joined.add)(cluster)
            return
        name = key.decode(errors="replace")
        if record.value is None:
            self._declared.pop(name, None)
            return
        try:
            self._declared[name] = decode(ClusterDeclared, record.value)
        except DecodeError as error:
            log.warning("declaration ignored", cluster=name, error=str(error))

    async def _converge(self) -> None:
        for name in self._declared.keys() - self._joined - set(self._simulator.names):
            log.info("provisioning a declared cluster", cluster=name)
            self._made.add(name)
            await self._simulator.add_cluster(specification(self._declared[name]))
        for name in self._made - self._declared.keys():
            log.info("removing a cluster whose declaration was taken back", cluster=name)
            await self._simulator.remove_cluster(name)
            self._made.discard(name)


def specification(declared: ClusterDeclared) -> ClusterSpec:
    """Three nodes of a common size, where and at the price that the declaration says."""
    return ClusterSpec(
        name=declared.name,
        region=declared.labels.get(REGION_LABEL, "simulated-1"),
        provider=declared.labels.get(PROVIDER_LABEL, "simulator"),
        node_groups=(
            NodeGroup(
                price_per_hour=declared.price_per_hour,
                taints=tuple(NodeTaint(key=t.key, value=t.value, effect=t.effect) for t in declared.taints),
            ),
        ),
    )
