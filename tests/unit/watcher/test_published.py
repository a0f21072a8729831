from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from services.watcher import published
from services.watcher.published import PublishedIndex
from shared.adapters.kafka.partitioner import partition_for
from shared.adapters.memory.event_log import MemoryLog, MemoryReader
from shared.events.topics import OBJECTS
from shared.ports.event_log import LogError, NewRecord, Record


class CountingLog(MemoryLog):
    def __init__(self) -> None:
        super().__init__()
        self.readers = 0

    async def reader(self, client_id: str) -> MemoryReader:
        self.readers += 1
        return await super().reader(client_id)

    def put(self, key: str, value: bytes | None = b"{}", epoch: str = "7") -> None:
        cluster = key.partition("/")[0].encode()
        headers = (("fleet_epoch", epoch.encode()),)
        self.append(NewRecord(OBJECTS.name, key.encode(), value, headers, cluster))


@pytest.fixture
async def log() -> CountingLog:
    log = CountingLog()
    await log.ensure_topics([OBJECTS])
    return log


@pytest.fixture
async def index(log: CountingLog) -> AsyncIterator[PublishedIndex]:
    index = PublishedIndex(log, partition_for)
    yield index
    await index.close()


async def test_keys_that_hold_a_value_and_the_largest_epoch(log: CountingLog, index: PublishedIndex) -> None:
    log.put("west/core/v1/pods/a/b", epoch="7")
    log.put("west/core/v1/pods/a/gone", epoch="9")
    log.put("west/core/v1/pods/a/gone", None, epoch="8")
    log.put("west/core/v1/pods/a/back", None, epoch="nonsense")
    log.put("west/core/v1/pods/a/back")
    log.put("west/-/heartbeat")
    log.put("western/core/v1/pods/a/other")

    found = await index.of("west")

    assert found.keys == {"west/core/v1/pods/a/b", "west/core/v1/pods/a/back", "west/-/heartbeat"}
    assert found.epoch == 9


async def test_clusters_that_start_together_share_the_reading(log: CountingLog, index: PublishedIndex) -> None:
    names = [f"c{number}" for number in range(60)]
    for name in names:
        log.put(f"{name}/core/v1/pods/a/b")

    found = await asyncio.gather(*(index.of(name) for name in names))

    assert [item.keys for item in found] == [{f"{name}/core/v1/pods/a/b"} for name in names]
    assert log.readers <= OBJECTS.partitions


async def test_who_asks_again_gets_what_came_meanwhile(log: CountingLog, index: PublishedIndex) -> None:
    assert (await index.of("west")).keys == set()
    log.put("west/core/v1/pods/a/b")
    assert (await index.of("west")).keys == {"west/core/v1/pods/a/b"}


async def test_a_topic_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LogError, match="no such topic"):
        await PublishedIndex(MemoryLog(), partition_for).of("west")


class HoleyReader(MemoryReader):
    """Compaction left nothing before the end: reads are empty, and the position never gets there."""

    async def read(self, *, max_records: int = 1000, timeout_s: float = 1.0) -> Sequence[Record]:
        del timeout_s
        records = await super().read(max_records=max_records, timeout_s=0.001)
        return [record for record in records if not (record.key or b"").endswith(b"/last")]

    def positions(self) -> dict:  # type: ignore[type-arg] # the port's mapping, as it stands
        return {partition: min(offset, 1) for partition, offset in super().positions().items()}


async def test_a_hole_before_the_end_does_not_wait_for_ever(log: CountingLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.put("west/core/v1/pods/a/b")
    log.put("west/core/v1/pods/a/last")
    monkeypatch.setattr(log, "reader", lambda _: _holey(log))
    monkeypatch.setattr(published, "READ_S", 0.01)

    index = PublishedIndex(log, partition_for)
    async with asyncio.timeout(30):
        found = await index.of("west")
    await index.close()

    assert found.keys == {"west/core/v1/pods/a/b"}


async def _holey(log: MemoryLog) -> HoleyReader:
    return HoleyReader(log)
