"""What a topic holds now: for commands that show it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.cli.connection import CLIENT
from shared.ports.event_log import START, EventLog, Record

_BATCH = 5000


async def latest(log: EventLog, topic: str, key: str) -> bytes | None:
    """The newest value of a key; None where there is none, or no such topic."""
    found = None
    async for record in records(log, topic):
        if record.key == key.encode():
            found = record.value
    return found


async def records(log: EventLog, topic: str, number: int | None = None) -> AsyncIterator[Record]:
    """All that a topic, or one partition of it, holds now."""
    reader = await log.reader(CLIENT)
    try:
        partitions = [item for item in await log.partitions(topic) if number is None or item.partition == number]
        await reader.assign(dict.fromkeys(partitions, START))
        ends = await reader.end_offsets(partitions)
        while any(position < ends[partition] for partition, position in reader.positions().items()):
            for record in await reader.read(max_records=_BATCH, timeout_s=1.0):
                yield record
    finally:
        await reader.close()
