"""The publisher of the journal, on a log in memory."""

from __future__ import annotations

import asyncio

import pytest

from services.scheduler.journal import Checkpoint
from services.scheduler.publisher import FencedError, JournalPublisher
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import ALL_TOPICS
from shared.testing.clock import FakeClock


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
