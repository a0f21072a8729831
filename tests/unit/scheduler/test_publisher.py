"""The publisher of the journal, on a log in memory."""

from __future__ import annotations

import asyncio

import pytest

from services.scheduler.journal import Checkpoint
from services.scheduler.publisher import FencedError, JournalPublisher
from shared.adapters.memory.event_log import MemoryLog
from shared.events.registry import decode
from shared.events.topics import ALL_TOPICS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.ports.event_log import START, Record
from shared.testing.clock import FakeClock
from tests.unit.status.world import KEY, placement


async def test_a_leader_that_was_replaced_before_it_read_the_checkpoint_notices() -> None:
    """Found by simulation: its successor's marker stood before that checkpoint, and it led on for ever."""
    events, clock = MemoryLog(), FakeClock()
    await events.ensure_topics(ALL_TOPICS)
    checkpoint = Checkpoint(0, epoch=4, leader="successor")
    publisher = JournalPublisher(events, clock, 0, checkpoint, {}, lambda *_: None)
    reader, derived = await events.reader("publisher"), await events.publisher("derived")
    with pytest.raises(FencedError, match="successor started epoch 4"):
        async with asyncio.timeout(5):
            await publisher.run(reader, derived, 3)


async def test_a_cluster_is_told_again_what_is_asked_of_it_and_that_nothing_is() -> None:
    """What a leader that had been replaced left behind the newest record may be of a workload that ended."""
    events, clock = MemoryLog(), FakeClock()
    await events.ensure_topics(ALL_TOPICS)
    published = {KEY: placement({"east": 2}, generation=7)}
    publisher = JournalPublisher(events, clock, 0, Checkpoint(0), published, lambda *_: None)
    derived = await events.publisher("derived")
    for cluster, key in (("east", KEY), ("west", KEY), ("east", "shop/ended")):
        await publisher.republish(derived, cluster, key)
    east, west = await _records(events, "east"), await _records(events, "west")
    assert [record.key for record in east] == [b"workload/shop/cart", b"workload/shop/ended"]
    command = decode(CommandIssued, east[0].value)
    assert (command.cluster, command.action, command.generation) == ("east", "run", 7)
    assert east[1].value is None
    assert [(record.key, record.value) for record in west] == [(b"workload/shop/cart", None)]


async def _records(events: MemoryLog, cluster: str) -> list[Record]:
    reader = await events.reader("test")
    await reader.assign(dict.fromkeys(await events.partitions(commands_topic(cluster).name), START))
    return list(await reader.read(timeout_s=0))
