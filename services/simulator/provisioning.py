"""Simulates clusters that the fleet declares: what a cloud would do on `kubectl create`.

Made are those that are declared with the provider `simulator`, and those that nobody has joined and that have no other
provider: a name that already sends heartbeats from elsewhere is left alone. The nodes of the former follow their
declaration. What was made here goes when it is declared to end, or when its declaration is taken back.
"""

from __future__ import annotations

import asyncio
from typing import Final

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup, NodeTaint
from shared.events.registry import DecodeError, decode
from shared.events.topics import CLUSTERS, OBJECTS
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.provisioning import SimulatedNodes
from shared.model.identities import PROVIDER_LABEL, REGION_LABEL, heartbeat_cluster
from shared.observability.logs import get_logger
from shared.ports.event_log import START, EventLog, Record

log = get_logger(__name__)

PROVIDER: Final = "simulator"
_READ_S = 0.5


class Provisioner:
    def __init__(self, events: EventLog, simulator: Simulator) -> None:
        self._events = events
        self._simulator = simulator
        self._declared: dict[str, ClusterDeclared] = {}
        self._joined: set[str] = set()
        # What was made, with the nodes that it got last.
        self._made: dict[str, tuple[SimulatedNodes, ...]] = {}

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
        wanted = {name for name in self._declared if self._is_wanted(name)}
        for name in sorted(wanted - set(self._simulator.names)):
            log.info("provisioning a declared cluster", cluster=name)
            self._made[name] = _nodes(self._declared[name])
            await self._simulator.add_cluster(specification(self._declared[name]))
        for name in sorted(self._made):
            declared = self._declared.get(name)
            if declared is None or (declared.provision is not None and declared.provision.ending):
                log.info("removing a cluster whose declaration ends or was taken back", cluster=name)
                await self._simulator.remove_cluster(name)
                del self._made[name]
            elif _nodes(declared) != self._made[name]:
                self._resize(declared)

    def _is_wanted(self, name: str) -> bool:
        provision = self._declared[name].provision
        if provision is None:
            return name not in self._joined
        return provision.provider == PROVIDER and not provision.ending

    def _resize(self, declared: ClusterDeclared) -> None:
        """Once for each change of the declaration: what becomes of nodes otherwise is nobody's business here."""
        cluster = self._simulator.cluster(declared.name)
        groups = {group.name: group for group in node_groups(declared)}
        for name in sorted(groups.keys() | {nodes.name for nodes in self._made[declared.name]}):
            present = cluster.nodes_of(name)
            wanted = groups[name].count if name in groups else 0
            if wanted > len(present):
                cluster.add_nodes(groups[name], wanted - len(present))
            for node in present[wanted:]:
                cluster.remove_node(node)
            log.info("nodes as declared", cluster=declared.name, group=name, before=len(present), now=wanted)
        self._made[declared.name] = _nodes(declared)


def _nodes(declared: ClusterDeclared) -> tuple[SimulatedNodes, ...]:
    return declared.provision.nodes if declared.provision is not None else ()


def specification(declared: ClusterDeclared) -> ClusterSpec:
    """Where and at the price that the declaration says."""
    return ClusterSpec(
        name=declared.name,
        region=declared.labels.get(REGION_LABEL, "simulated-1"),
        provider=declared.labels.get(PROVIDER_LABEL, PROVIDER),
        node_groups=node_groups(declared),
    )


def node_groups(declared: ClusterDeclared) -> tuple[NodeGroup, ...]:
    """As its provision says, or three nodes of a common size."""
    common = NodeGroup(
        price_per_hour=declared.price_per_hour,
        taints=tuple(NodeTaint(key=t.key, value=t.value, effect=t.effect) for t in declared.taints),
    )
    if declared.provision is None:
        return (common,)
    return tuple(
        common.model_copy(update={"name": nodes.name, "count": nodes.count, "cpu": nodes.cpu, "memory": nodes.memory})
        for nodes in declared.provision.nodes
    )
