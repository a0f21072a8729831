"""What a replay reads of the log: the journal in its order, and runs of all other partitions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from services.scheduler.inputs import partitions_of
from services.scheduler.journal import JournalEntry, decode_entry, is_entry, journal_partition
from shared.events.topics import PLACEMENTS
from shared.events.v1.decisions import InputRun
from shared.ports.clock import Clock
from shared.ports.event_log import START, EventLog, LogError, Partition, Reader, Record
from shared.runtime.reading import all_of

_BATCH = 2_000
_READ_S = 0.5
# So many records of a partition that were read stay known: requests are not decided in the order of the log.
_KEPT = 10_000


@dataclass(slots=True)
class _Window:
    """What is known of a partition: its records from `begin` on, and before `end`."""

    begin: int
    end: int
    records: list[Record] = field(default_factory=list)


class LogSource:
    """Reads up to where the journal ends when it is opened. Every method raises LogError."""

    def __init__(self, events: EventLog, clock: Clock, cell: int, timeout_s: float) -> None:
        self._events = events
        self._clock = clock
        self._journal = journal_partition(cell)
        self._timeout_s = timeout_s
        self._windows: dict[Partition, _Window] = {}
        self._begins: dict[Partition, int] = {}
        self._entries: Reader
        self._inputs: Reader

    async def open(self, stack: AsyncExitStack) -> None:
        self._entries = await self._events.reader("scheduler-replay-journal")
        stack.push_async_callback(self._entries.close)
        self._inputs = await self._events.reader("scheduler-replay-inputs")
        stack.push_async_callback(self._inputs.close)

    async def entries(self, last: int | None) -> AsyncIterator[tuple[int, JournalEntry]]:
        """Raises DecodeError for an entry that cannot be read."""
        async for record in all_of(self._entries, self._journal, self._clock, self._timeout_s, last):
            if is_entry(record):
                yield record.offset, decode_entry(record)

    async def placements(self) -> AsyncIterator[Record]:
        for partition in await partitions_of(self._events, [PLACEMENTS.name]):
            async for record in all_of(self._inputs, partition, self._clock, self._timeout_s):
                yield record

    async def records(self, run: InputRun) -> AsyncIterator[Record]:
        """What is there of it: compaction and retention may have taken the rest."""
        partition = Partition(run.topic, run.partition)
        at = max(run.start, await self._begin_of(partition))
        while at < run.end:
            window = await self._window(partition, at)
            end = min(run.end, window.end)
            low, high = (bisect_left(window.records, offset, key=_offset) for offset in (at, end))
            for record in window.records[low:high]:
                yield record
            at = end

    async def _window(self, partition: Partition, at: int) -> _Window:
        """One that has what stands at an offset."""
        window = self._windows.get(partition)
        if window is None or not window.begin <= at <= window.end:
            window = self._windows[partition] = _Window(at, at)
        if at < window.end:
            return window
        await self._inputs.assign({partition: window.end})
        deadline = self._clock.monotonic() + self._timeout_s
        while window.end <= at:
            window.records += await self._inputs.read(max_records=_BATCH, timeout_s=_READ_S)
            window.end = self._inputs.positions()[partition]
            if window.end <= at and self._clock.monotonic() > deadline:
                raise LogError(f"{partition.topic}/{partition.partition}: no answer in time for offset {at}")
        if (surplus := len(window.records) - _KEPT) > 0:
            window.begin = window.records[surplus].offset
            del window.records[:surplus]
        return window

    async def _begin_of(self, partition: Partition) -> int:
        if partition not in self._begins:
            await self._inputs.assign({partition: START})
            self._begins[partition] = self._inputs.positions()[partition]
        return self._begins[partition]


def _offset(record: Record) -> int:
    return record.offset
