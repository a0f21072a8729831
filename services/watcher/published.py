"""What earlier incarnations left in `fleet.objects`: keys and epochs of a cluster, read at the start of a session.

A partition is read once for all clusters that ask at the same time, values are dropped as they come, and only keys
that still have one are kept. The read goes up to the end as it stood when it began: that is enough, since whoever asks
is the sole publisher of its cluster already, and has published nothing yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.events.topics import OBJECTS
from shared.observability.logs import get_logger
from shared.ports.event_log import START, EventLog, LogError, Partition, Reader, Record

log = get_logger(__name__)

# Clusters that start together ask together.
GATHER_S: Final = 0.05
READ_RECORDS: Final = 5000
READ_S: Final = 2.0
# Compaction can leave nothing between the last record and the end. Only if the broker answers and has nothing for this
# many reads is that believed.
MAX_EMPTY_READS: Final = 5

_EPOCH: Final = "fleet_epoch"


@dataclass(slots=True)
class Inheritance:
    """The keys that hold a value, and the largest epoch seen."""

    keys: set[str] = field(default_factory=set)
    epoch: int = 0


class PublishedIndex:
    """`partition_for(key, partitions)` is the log's own partitioner."""

    def __init__(self, log: EventLog, partition_for: Callable[[bytes, int], int]) -> None:
        self._log = log
        self._partition_for = partition_for
        self._waiting: dict[int, dict[str, asyncio.Future[Inheritance]]] = {}
        self._serving: dict[int, asyncio.Task[None]] = {}

    async def partition_of(self, cluster: str) -> Partition:
        """Where all records of a cluster stand. Raises LogError."""
        partitions = await self._log.partitions(OBJECTS.name)
        if not partitions:
            raise LogError(f"{OBJECTS.name}: no such topic")
        return Partition(OBJECTS.name, self._partition_for(cluster.encode(), len(partitions)))

    async def of(self, cluster: str) -> Inheritance:
        """Raises LogError."""
        number = (await self.partition_of(cluster)).partition
        future: asyncio.Future[Inheritance] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(number, {})[cluster] = future
        if number not in self._serving:
            self._serving[number] = asyncio.create_task(self._serve(number), name=f"published-{number}")
        return await future

    async def close(self) -> None:
        for task in self._serving.values():
            task.cancel()
        await asyncio.gather(*self._serving.values(), return_exceptions=True)

    async def _serve(self, number: int) -> None:
        """Reads the partition for those who wait, and again for those who came meanwhile."""
        try:
            await asyncio.sleep(GATHER_S)
            while asked := self._waiting.pop(number, None):
                await self._answer(Partition(OBJECTS.name, number), asked)
        finally:
            del self._serving[number]

    async def _answer(self, partition: Partition, asked: Mapping[str, asyncio.Future[Inheritance]]) -> None:
        failure: LogError | None = None
        found: dict[str, Inheritance] = {}
        try:
            found = await self._read(partition, asked)
        except LogError as error:
            failure = error
        except BaseException as error:
            failure = LogError(f"{partition.topic}: the keys were not read: {error!r}")
            raise
        finally:
            for cluster, future in asked.items():
                if future.done():
                    continue
                if failure is None:
                    future.set_result(found[cluster])
                else:
                    future.set_exception(failure)

    async def _read(self, partition: Partition, clusters: Iterable[str]) -> dict[str, Inheritance]:
        found = {cluster: Inheritance() for cluster in clusters}
        reader = await self._log.reader("watcher-published")
        try:
            end = (await reader.end_offsets([partition]))[partition]
            await reader.assign({partition: START})
            count = await read_until(reader, partition, end, lambda record: _note(record, found))
        finally:
            await reader.close()
        log.info("published keys read", partition=partition.partition, records=count, end=end, clusters=len(found))
        return found


async def read_until(reader: Reader, partition: Partition, end: int, note: Callable[[Record], None]) -> int:
    """Notes every record before `end`, and returns how many there were. Raises LogError."""
    count = empty = 0
    while reader.positions()[partition] < end:
        records = await reader.read(max_records=READ_RECORDS, timeout_s=READ_S)
        for record in records:
            if record.offset < end:
                note(record)
        count += len(records)
        empty = 0 if records else empty + 1
        if empty:
            # Raises LogError if the broker is away: then emptiness means nothing.
            await reader.end_offsets([partition])
        if empty >= MAX_EMPTY_READS:
            log.warning("nothing before the end: taken as compacted", partition=partition.partition, end=end)
            break
    return count


def _note(record: Record, found: Mapping[str, Inheritance]) -> None:
    if record.key is None:
        return
    cluster = record.key.partition(b"/")[0].decode("utf-8", "replace")
    inheritance = found.get(cluster)
    if inheritance is None:
        return
    epoch = record.header(_EPOCH)
    if epoch is not None and epoch.isdigit():
        inheritance.epoch = max(inheritance.epoch, int(epoch))
    key = record.key.decode("utf-8", "replace")
    if record.value is None:
        inheritance.keys.discard(key)
    else:
        inheritance.keys.add(key)
