"""The two sides that the bridge reads, as stimuli: custom resources by list and watch, and the fleet's topics.

Both begin at the beginning each time the bridge begins. `CaughtUp` follows when a list is complete, and when a topic
was read to the end that it had at the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import orjson

from services.hub import metrics
from services.hub.decision.instructions import (
    CaughtUp,
    ClusterSeen,
    DeclarationSeen,
    HeartbeatSeen,
    PlacementSeen,
    Source,
    StatusSeen,
    WorkloadSeen,
)
from services.hub.decision.resources import CLUSTERS
from services.hub.decision.views import cluster_view, workload_view
from shared.events.envelope import SEQ, number_of
from shared.events.registry import DecodeError, decode
from shared.events.topics import CLUSTERS as DECLARATIONS
from shared.events.topics import OBJECTS, PLACEMENTS, STATUS, Topic
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.status import WorkloadStatus
from shared.events.v1.workloads import FieldError
from shared.kernel.machine import Stimulus
from shared.model.identities import Resource, WorkloadKey, heartbeat_cluster
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import Change, ChangeType, ClusterApi
from shared.ports.event_log import START, EventLog, LogError, Partition, Reader, Record

log = get_logger(__name__)

Emit = Callable[[Stimulus], None]
Refuse = Callable[[Record, Sequence[FieldError]], Awaitable[None]]

# After so many objects or records others get their turn.
_SLICE: Final = 100
# How long a read waits for records: until the feed has caught up it looks in between whether it has.
_READ_UP_S: Final = 0.5
_FOLLOW_S: Final = 5.0


class ObjectFeed:
    """The custom resources of one kind."""

    def __init__(self, api: ClusterApi, resource: Resource, source: Source, emit: Emit, clock: Clock) -> None:
        self._api = api
        self._resource = resource
        self._source = source
        self._emit = emit
        self._clock = clock
        self._known: set[tuple[str, str]] = set()
        self._listed: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Without end; cancel it."""
        async for batch in self._api.list_watch_batches(self._resource):
            for number, change in enumerate(batch, 1):
                self._take(change)
                if number % _SLICE == 0:
                    await asyncio.sleep(0)

    def _take(self, change: Change) -> None:
        key = (change.namespace, change.name)
        match change.type:
            case ChangeType.SYNC_STARTED:
                self._listed = set()
            case ChangeType.SYNC_FINISHED:
                for gone in self._known - self._listed:
                    self._see(gone, None, change.resource_version)
                self._known = set(self._listed)
                self._emit(CaughtUp(id=f"list:{self._resource}", at_ms=self._clock.now_ms(), source=self._source))
            case ChangeType.LISTED | ChangeType.ADDED | ChangeType.MODIFIED:
                self._known.add(key)
                self._listed.add(key)
                self._see(key, change.raw, change.resource_version)
            case ChangeType.DELETED:
                self._known.discard(key)
                self._listed.discard(key)
                self._see(key, None, change.resource_version)
            case ChangeType.INTERRUPTED:
                metrics.INTERRUPTIONS.labels(resource=self._resource.plural).inc()
                log.warning("watch interrupted", resource=str(self._resource), error=str(change.error))

    def _see(self, key: tuple[str, str], raw: bytes | None, version: str) -> None:
        namespace, name = key
        document = orjson.loads(raw) if raw is not None else None
        cause, now_ms = f"{self._resource.plural}:{version}", self._clock.now_ms()
        if self._resource == CLUSTERS:
            cluster = cluster_view(document) if document is not None else None
            self._emit(ClusterSeen(id=cause, at_ms=now_ms, name=name, view=cluster))
        else:
            workload = workload_view(document) if document is not None else None
            self._emit(WorkloadSeen(id=cause, at_ms=now_ms, key=WorkloadKey(namespace, name), view=workload))


class RecordFeed:
    """Some topics from their start; a record that is malformed is refused, and the feed goes on."""

    def __init__(self, topics: Sequence[Topic], source: Source, emit: Emit, refuse: Refuse, clock: Clock) -> None:
        self._topics = topics
        self._source = source
        self._emit = emit
        self._refuse = refuse
        self._clock = clock

    async def run(self, events: EventLog) -> None:
        """Without end; cancel it. Raises LogError."""
        reader = await events.reader(f"hub-{self._source.value}")
        try:
            partitions = [p for topic in self._topics for p in await events.partitions(topic.name)]
            if not partitions:
                raise LogError(f"no such topics: {', '.join(topic.name for topic in self._topics)}")
            await reader.assign(dict.fromkeys(partitions, START))
            await self._follow(reader, await reader.end_offsets(partitions))
        finally:
            await reader.close()

    async def _follow(self, reader: Reader, ends: Mapping[Partition, int]) -> None:
        caught_up = False
        while True:
            if not caught_up:
                positions = reader.positions()
                if all(positions[partition] >= end for partition, end in ends.items()):
                    caught_up = True
                    log.info("caught up", source=self._source.value)
                    self._emit(CaughtUp(id="ends", at_ms=self._clock.now_ms(), source=self._source))
            records = await reader.read(max_records=2000, timeout_s=_FOLLOW_S if caught_up else _READ_UP_S)
            for number, record in enumerate(records, 1):
                await self._take(record)
                if number % _SLICE == 0:
                    await asyncio.sleep(0)

    async def _take(self, record: Record) -> None:
        try:
            stimulus = _stimulus(record, self._clock.now_ms())
        except DecodeError as error:
            await self._refuse(record, error.errors)
            return
        if stimulus is not None:
            self._emit(stimulus)


def _stimulus(record: Record, now_ms: int) -> Stimulus | None:
    """What a record means to the bridge; None for what it has no use for. Raises DecodeError."""
    cause = str(record.position)
    if record.topic == OBJECTS.name:
        cluster = heartbeat_cluster(record.key or b"")
        if cluster is None:
            return None
        heartbeat = decode(ClusterObserved, record.value) if record.value is not None else None
        return HeartbeatSeen(id=cause, at_ms=now_ms, cluster=cluster, heartbeat=heartbeat)
    if record.topic == DECLARATIONS.name:
        name = (record.key or b"").decode(errors="replace")
        declared = decode(ClusterDeclared, record.value) if record.value is not None else None
        return DeclarationSeen(id=cause, at_ms=now_ms, name=name, declared=declared)
    if record.topic == STATUS.name:
        status = decode(WorkloadStatus, record.value) if record.value is not None else None
        return StatusSeen(id=cause, at_ms=now_ms, key=_workload(record), status=status)
    if record.topic == PLACEMENTS.name:
        placement = decode(PlacementPublished, record.value) if record.value is not None else None
        if placement is not None and placement.placement is None and (record.key or b"").startswith(b"requests/"):
            # The refusal of a request of which not even the name could be read is nobody's.
            return None
        by = number_of(record.headers, SEQ) if placement is None else None
        return PlacementSeen(id=cause, at_ms=now_ms, key=_workload(record), placement=placement, ended_at=by)
    raise ValueError(f"{record.topic} is none of the hub's topics")


def _workload(record: Record) -> WorkloadKey:
    try:
        return WorkloadKey.parse((record.key or b"").decode())
    except ValueError as error:
        raise DecodeError((FieldError(field="key", reason="Invalid", message=str(error)),)) from error
