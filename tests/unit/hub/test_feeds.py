"""What the hub hears of the fleet's topics, on the log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.hub.decision.instructions import CaughtUp, HeartbeatSeen, Source
from services.hub.feeds import RecordFeed
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import OBJECTS
from shared.events.v1.workloads import FieldError
from shared.kernel.machine import Stimulus
from shared.model.identities import ObjectKey, Resource, heartbeat_key, sync_marker_key
from shared.ports.event_log import NewRecord, Record
from shared.testing.clock import FakeClock
from tests.unit.hub.world import heartbeat

NODES = Resource("", "v1", "nodes")


async def heard(*records: tuple[str, bytes | None]) -> list[Stimulus]:
    """What the feed of `fleet.objects` says until it has caught up; nothing may be refused."""
    log = MemoryLog()
    await log.ensure_topics([OBJECTS])
    for key, value in records:
        log.append(NewRecord(OBJECTS.name, key.encode(), value, partition_key=b"west"))
    stimuli: list[Stimulus] = []
    done = asyncio.Event()

    def emit(stimulus: Stimulus) -> None:
        stimuli.append(stimulus)
        if isinstance(stimulus, CaughtUp):
            done.set()

    async def refuse(record: Record, errors: Sequence[FieldError]) -> None:
        raise AssertionError((record, errors))

    feed = asyncio.create_task(RecordFeed((OBJECTS,), Source.HEARTBEATS, emit, refuse, FakeClock()).run(log))
    waiting = asyncio.create_task(done.wait())
    try:
        async with asyncio.timeout(30):
            await asyncio.wait({feed, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if feed.done():
            await feed
    finally:
        feed.cancel()
        waiting.cancel()
        await asyncio.gather(feed, waiting, return_exceptions=True)
    return stimuli


async def test_of_a_clusters_records_only_its_heartbeats_are_heard() -> None:
    beat = heartbeat("west")
    stimuli = await heard(
        (str(ObjectKey("west", NODES, "", "heartbeat")), b"{}"),  # a node of this name is no heartbeat
        (sync_marker_key("west", NODES), b"{}"),
        (heartbeat_key("west"), beat.to_json()),
        (str(ObjectKey("west", NODES, "", "heartbeat")), None),
    )
    seen = [stimulus for stimulus in stimuli if isinstance(stimulus, HeartbeatSeen)]
    assert [(item.cluster, item.heartbeat) for item in seen] == [("west", beat)]


async def test_a_tombstone_says_that_the_cluster_left() -> None:
    stimuli = await heard((heartbeat_key("west"), None), (heartbeat_key("east"), heartbeat("east").to_json()))
    seen = [stimulus for stimulus in stimuli if isinstance(stimulus, HeartbeatSeen)]
    assert [(item.cluster, item.heartbeat is None) for item in seen] == [("west", True), ("east", False)]
