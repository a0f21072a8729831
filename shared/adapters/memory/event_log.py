"""The `EventLog` port in memory: the same order, positions and refusals as the real one, and no I/O."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from aiokafka.partitioner import murmur2

from shared.adapters.clock import SystemClock
from shared.adapters.memory.sole import Fences, SolePublisher
from shared.events.topics import Cleanup, Topic
from shared.ports.clock import Clock
from shared.ports.event_log import (
    END,
    START,
    Committed,
    LogError,
    NewRecord,
    Partition,
    Position,
    Record,
    RecordTooLargeError,
)

_DEFAULT_MAX_BYTES = 1024 * 1024


@lru_cache(maxsize=16_384)
def _hash(key: bytes) -> int:
    """As every Kafka client computes it."""
    return int(murmur2(key) & 0x7FFFFFFF)


class Segment:
    """One partition: its records, and where it begins and ends."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.start = 0
        self.end = 0

    def since(self, offset: int, limit: int) -> list[Record]:
        # Compaction leaves gaps, so offsets are found by search, not by index; mostly the newest are asked for.
        low, high = 0, len(self.records)
        if offset >= self.end:
            return []
        near = high - (self.end - offset)
        if 0 <= near < high and self.records[near].offset == offset:
            return self.records[near : near + limit]
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.records[middle].offset < offset else (low, middle)
        return self.records[low : low + limit]


class MemoryLog:
    """A log that all publishers and readers of one test share."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._topics: dict[str, Topic] = {}
        self._segments: dict[Partition, Segment] = {}
        self._committed: dict[str, dict[Partition, Committed]] = defaultdict(dict)
        self._waiting: set[asyncio.Event] = set()
        self._fences = Fences()

    async def ensure_topics(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            if topic.name not in self._topics:
                self._topics[topic.name] = topic
                for number in range(topic.partitions):
                    self._segments[Partition(topic.name, number)] = Segment()

    async def partitions(self, topic: str) -> Sequence[Partition]:
        known = self._topics.get(topic)
        return [Partition(topic, number) for number in range(known.partitions)] if known else []

    async def publisher(self, client_id: str) -> MemoryPublisher:
        del client_id
        return MemoryPublisher(self.append)

    async def sole_publisher(self, client_id: str, writer: str, announce: Iterable[Partition] = ()) -> SolePublisher:
        inner = await self.publisher(client_id)
        return SolePublisher(inner, self._fences, writer, self._fences.open(writer, announce), self.place)

    async def reader(self, client_id: str) -> MemoryReader:
        del client_id
        return MemoryReader(self)

    async def committed(self, group: str, partitions: Iterable[Partition]) -> Mapping[Partition, Committed]:
        stored = self._committed[group]
        return {partition: stored[partition] for partition in partitions if partition in stored}

    async def commit(self, group: str, positions: Mapping[Partition, Committed]) -> None:
        self._committed[group].update(positions)

    async def close(self) -> None:
        return

    def append(self, record: NewRecord, at: Partition | None = None) -> Position:
        """Appends at once, `at` where `place` said. Raises what `place` does."""
        partition = at if at is not None else self.place(record)
        segment = self._segments[partition]
        offset = segment.end
        segment.records.append(
            Record(*partition, offset, self._clock.now_ms(), record.key, record.value, tuple(record.headers))
        )
        segment.end += 1
        for event in self._waiting:
            event.set()
        return Position(*partition, offset)

    def place(self, record: NewRecord) -> Partition:
        """Where a record goes. Raises LogError for a topic or partition that does not exist, RecordTooLargeError."""
        topic = self._topics.get(record.topic)
        if topic is None:
            raise LogError(f"{record.topic}: no such topic")
        limit = int(topic.extra.get("max.message.bytes", _DEFAULT_MAX_BYTES))
        if len(record.key or b"") + len(record.value or b"") > limit:
            raise RecordTooLargeError(f"{record.topic}: larger than {limit} bytes")
        if topic.cleanup is Cleanup.COMPACT and record.key is None:
            raise LogError(f"{record.topic}: a compacted topic needs a key")
        partition = Partition(record.topic, self._partition(topic, record))
        if partition not in self._segments:
            raise LogError(f"{record.topic}: no partition {record.partition}")
        return partition

    def compact(self, name: str, *, drop_tombstones: bool = False) -> None:
        """Keeps the last record of each key, as the log cleaner does."""
        for partition, segment in self._segments.items():
            if partition.topic == name:
                last = {record.key: record.offset for record in segment.records}
                segment.records = [
                    record
                    for record in segment.records
                    if last[record.key] == record.offset and not (drop_tombstones and record.value is None)
                ]

    def truncate(self, partition: Partition, start: int) -> None:
        """Drops what is older than `start`, as retention does."""
        segment = self._segments[partition]
        segment.records = [record for record in segment.records if record.offset >= start]
        segment.start = max(segment.start, min(start, segment.end))

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, by partition and offset: for assertions."""
        return [r for partition, s in sorted(self._segments.items()) if partition.topic == topic for r in s.records]

    def segment(self, partition: Partition) -> Segment:
        segment = self._segments.get(partition)
        if segment is None:
            raise LogError(f"{partition.topic}: no partition {partition.partition}")
        return segment

    def watch(self, event: asyncio.Event) -> None:
        self._waiting.add(event)

    def unwatch(self, event: asyncio.Event) -> None:
        self._waiting.discard(event)

    @staticmethod
    def _partition(topic: Topic, record: NewRecord) -> int:
        if record.partition is not None:
            return record.partition
        key = record.partition_key if record.partition_key is not None else record.key
        return 0 if key is None or topic.partitions == 1 else _hash(key) % topic.partitions


class MemoryPublisher:
    def __init__(self, append: Callable[[NewRecord], Position]) -> None:
        self._append = append
        self._closed = False

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        if self._closed:
            raise LogError("the publisher is closed")
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        future.set_result(self._append(record))
        return future

    async def send_many(self, records: Sequence[NewRecord]) -> None:
        for record in records:
            await self.send(record)

    async def flush(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        self._closed = True


class MemoryReader:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._positions: dict[Partition, int] = {}
        self._event = asyncio.Event()
        log.watch(self._event)

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        resolved: dict[Partition, int] = {}
        for partition, offset in positions.items():
            segment = self._log.segment(partition)
            resolved[partition] = {START: segment.start, END: segment.end}.get(offset, offset)
        self._positions = resolved

    async def read(self, *, max_records: int = 1000, timeout_s: float = 1.0) -> Sequence[Record]:
        self._event.clear()
        records = self._take(max_records)
        if not records:
            # Not wait_for: on Python 3.11 it swallows a cancellation that comes together with the event.
            try:
                async with asyncio.timeout(timeout_s):
                    await self._event.wait()
            except TimeoutError:
                return []
            records = self._take(max_records)
        return records

    def _take(self, limit: int) -> list[Record]:
        records: list[Record] = []
        for partition, offset in self._positions.items():
            segment = self._log.segment(partition)
            if not segment.start <= offset <= segment.end:
                raise LogError(f"the position is no longer in the log: {partition} {offset}")
            taken = segment.since(offset, limit - len(records))
            records += taken
            if len(records) >= limit:
                self._positions[partition] = taken[-1].offset + 1
                break
            # The end also where compaction took the last records.
            self._positions[partition] = segment.end
        return records

    def positions(self) -> Mapping[Partition, int]:
        return dict(self._positions)

    async def end_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        return {partition: self._log.segment(partition).end for partition in partitions}

    async def close(self) -> None:
        self._log.unwatch(self._event)
