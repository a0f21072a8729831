"""What is there at the end: the topics as a new consumer reads them, the clusters as they are, Redis' table.

The same shape as the simulation's, so that its checker judges both. Poison, which is our own, is left out; readers
have to live with it, checks need not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis

from services.scheduler.decision.config import SchedulerConfig
from services.watcher.settings import DEFAULT_RESOURCES
from shared.adapters.kafka import KafkaLog
from shared.events.topics import OBJECTS, PLACEMENTS, STATUS, commands_topic
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE
from shared.model.identities import Resource
from shared.ports.event_log import START, Record
from tests.chaos.bed import Bed
from tests.chaos.journalist import Journalist, is_poison, items_of, list_objects
from tests.chaos.kinds import QUEUES
from tests.simulation.checker import Evidence

Json = dict[str, Any]
Place = tuple[str, str, str]
_RESOURCES: Final = tuple(Resource.parse(text) for text in DEFAULT_RESOURCES.split(","))
_REDIS_S: Final = 10.0


class Witness:
    """Gathers evidence again and again, until it is as it should be."""

    def __init__(self, bed: Bed, journalist: Journalist) -> None:
        self._bed = bed
        self.evidence = Evidence(
            journalist.history,
            {},
            {},
            frozenset(_storage(resource) for resource in _RESOURCES),
            queues=QUEUES,
            rebalances_per_minute=SchedulerConfig().rebalances_per_minute,
        )

    async def look(self) -> Evidence:
        """Raises LogError, RedisError and what the test bed's client raises, while something is still broken."""
        topics = [OBJECTS, PLACEMENTS, STATUS, *(commands_topic(name) for name in self._bed.clusters)]
        self.evidence.records = {topic.name: await read_topic(self._bed.log, topic.name) for topic in topics}
        clusters = self._bed.clusters
        found = await asyncio.gather(*(self._objects(name) for name in clusters))
        self.evidence.objects = dict(zip(clusters, found, strict=True))
        self.evidence.tables = {name: await self._read_model(name) for name in (WORKLOADS_TABLE, CLUSTERS_TABLE)}
        return self.evidence

    async def _objects(self, cluster: str) -> dict[Place, Json]:
        objects: dict[Place, Json] = {}
        for resource in _RESOURCES:
            listed = await list_objects(self._bed.clusters[cluster], f"{resource.path}/{resource.plural}")
            for item in items_of(listed):
                metadata = item["metadata"]
                objects[_storage(resource), metadata.get("namespace", ""), metadata["name"]] = item
        return objects

    async def _read_model(self, name: str) -> Mapping[str, bytes]:
        async with Redis.from_url(self._bed.redis.url, socket_timeout=_REDIS_S) as client:
            table: Any = await client.hgetall(f"flotilla:{name}")
        return {key.decode(): value for key, value in table.items()}


def _storage(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


async def read_topic(log: KafkaLog, topic: str) -> list[Record]:
    """Every record from the start to the end of this moment, poison left out. Raises LogError."""
    reader = await log.reader("chaos-witness")
    records: list[Record] = []
    try:
        await reader.assign(dict.fromkeys(await log.partitions(topic), START))
        ends = await reader.end_offsets(reader.positions())
        while any(position < ends[partition] for partition, position in reader.positions().items()):
            records += [record for record in await reader.read(timeout_s=0.5) if not is_poison(record)]
    finally:
        await reader.close()
    return records
