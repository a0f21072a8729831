"""Where to read from, and how far everything has been read.

Stored under the group `flotilla-status`: for placements and results, that everything before is told; for the history,
that everything before is reflected in the statuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from shared.events.topics import EVENTS, INVENTORIES, OBJECTS, PLACEMENTS, RESULTS, SCALING, STATUS, WAITING
from shared.ports.event_log import START, EventLog, Partition, Reader, Record

GROUP = "flotilla-status"
INPUTS = (PLACEMENTS.name, RESULTS.name, OBJECTS.name, INVENTORIES.name, SCALING.name, WAITING.name)
STATUSES = (STATUS.name,)
HISTORY = (EVENTS.name,)


@dataclass(frozen=True, slots=True)
class Stored:
    """Positions as they were stored, by partition; absent where nothing was."""

    offsets: Mapping[Partition, int]

    @classmethod
    async def load(cls, log: EventLog) -> Stored:
        """Raises LogError."""
        partitions = [p for topic in (PLACEMENTS, RESULTS, EVENTS) for p in await log.partitions(topic.name)]
        committed = await log.committed(GROUP, partitions)
        return cls({partition: item.offset for partition, item in committed.items()})

    def told(self, partition: Partition, offset: int) -> bool:
        """Whether what a record says was told before."""
        return offset < self.offsets.get(partition, 0)


async def assign_from(reader: Reader, stored: Mapping[Partition, int], ends: Mapping[Partition, int]) -> None:
    """Reads the partitions of `ends` from stored positions, as far as the log still has them, else from their start.

    Raises:
        LogError: the broker is away.
    """
    await reader.assign(dict.fromkeys(ends, START))
    starts = reader.positions()
    begin = {p: at for p, at in stored.items() if p in ends and starts[p] < at <= ends[p]}
    if begin:
        await reader.assign({partition: begin.get(partition, start) for partition, start in starts.items()})


def in_time_order(records: Iterable[Record]) -> Sequence[Record]:
    """One batch by time; within a partition as it stands in the log, whatever the clocks said.

    A batch comes partition by partition. By time, what a workload went through is mostly folded as it happened, and
    fewer of its steps are overtaken by the next placement.
    """
    latest: dict[tuple[str, int], int] = {}
    timed: list[tuple[int, Record]] = []
    for record in records:
        partition = (record.topic, record.partition)
        moment = latest[partition] = max(record.timestamp_ms, latest.get(partition, 0))
        timed.append((moment, record))
    if len(latest) > 1:
        timed.sort(key=itemgetter(0))
    return [record for _, record in timed]


def reached(positions: Mapping[Partition, int], ends: Mapping[Partition, int]) -> bool:
    """Whether everything before `ends` has been read."""
    return all(positions.get(partition, 0) >= end for partition, end in ends.items())


def lag(positions: Mapping[Partition, int], ends: Mapping[Partition, int]) -> Mapping[str, int]:
    """Records that were not read yet, by topic."""
    behind: Counter[str] = Counter()
    for partition, end in ends.items():
        behind[partition.topic] += max(0, end - positions.get(partition, 0))
    return behind
