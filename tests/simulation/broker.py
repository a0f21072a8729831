"""The world's log: `MemoryLog` as the store, with cleaning, subscribers who hear of appends, and a history of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol
from zlib import crc32

from shared.adapters.memory.event_log import MemoryLog, Segment
from shared.events.topics import Cleanup, Topic
from shared.ports.event_log import END, START, Committed, NewRecord, Partition, Position, Record
from tests.simulation.history import Appended, History
from tests.simulation.loop import VirtualLoop
from tests.simulation.process import ProcessClock


class Subscriber(Protocol):
    def appended(self, partition: Partition) -> None:
        """The partition has more records than before."""


_BROKERS = 3


class Broker(MemoryLog):
    """All brokers of the log together. `author` of an append is the process that sent it.

    `acks_all`: what a broker acknowledges its followers have, so it is there when one of them takes its place.
    """

    acks_all = True

    def __init__(self, loop: VirtualLoop, history: History, *, fenced: bool = True) -> None:
        self._fenced = fenced
        self._time = ProcessClock(loop)
        super().__init__(self._time)
        self._history = history
        self.subscribers: dict[Partition, list[Subscriber]] = defaultdict(list)
        self.retired = 0
        self._epochs: dict[str, int] = {}
        self._admitted: dict[tuple[str, Partition], int] = {}
        self._cut_off: dict[int, float] = {}
        self.reserved: Callable[[Partition], int | None] = self._lowest_commit

    def accept(self, record: NewRecord, author: str, at: Partition | None = None) -> Position:
        """Appends at once, `at` where `place` said. Raises LogError."""
        position = self.append(record, at)
        self._history.appends.append(
            Appended(
                at_ms=self._time.now_ms(),
                author=author,
                topic=position.topic,
                partition=position.partition,
                offset=position.offset,
                key=record.key,
                value=record.value,
                headers=tuple(record.headers),
            )
        )
        self._tell(at or Partition(position.topic, position.partition))
        return position

    def _tell(self, partition: Partition) -> None:
        for subscriber in self.subscribers[partition]:
            subscriber.appended(partition)

    # Writers of which only the newest may write

    def replace_writer(self, writer: str, announce: Iterable[Partition]) -> int:
        """The epoch of a new publisher of this writer. In `announce` it holds from now on: a marker says so there."""
        epoch = self._epochs[writer] = self._epochs.get(writer, 0) + 1
        for partition in announce:
            self._admitted[writer, partition] = epoch
            self.segment(partition).end += 1
            self._tell(partition)
        return epoch

    def admits(self, writer: tuple[str, int] | None, partition: Partition) -> bool:
        """Whether a publisher may write to a partition now; once it has, no older one may."""
        if writer is None or not self._fenced:
            return True
        name, epoch = writer
        if epoch < self._admitted.get((name, partition), 0):
            return False
        self._admitted[name, partition] = epoch
        return True

    # Brokers that are cut off from the others

    def cut_off(self, number: int, seconds: float) -> None:
        """One broker is alone for `seconds`; then others lead its partitions."""
        self._cut_off[number % _BROKERS] = self._time.monotonic() + seconds

    def leaderless_s(self, partition: Partition) -> float:
        """How long it takes until a partition has a leader whose followers answer; 0 if it has one."""
        if not self._cut_off:
            return 0.0
        number = crc32(f"{partition.topic}/{partition.partition}".encode()) % _BROKERS
        return max(self._cut_off.get(number, 0.0) - self._time.monotonic(), 0.0)

    # Questions of connections, answered at once

    def create(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            if topic.name not in self._topics:
                self._topics[topic.name] = topic
                for number in range(topic.partitions):
                    self._segments[Partition(topic.name, number)] = Segment()

    def partitions_of(self, topic: str) -> list[Partition]:
        known = self._topics.get(topic)
        return [Partition(topic, number) for number in range(known.partitions)] if known else []

    def resolve(self, positions: Mapping[Partition, int]) -> dict[Partition, int]:
        """Raises LogError for a partition that does not exist."""
        return {
            partition: {START: self.segment(partition).start, END: self.segment(partition).end}.get(offset, offset)
            for partition, offset in positions.items()
        }

    def stored(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, Committed]:
        known = self._committed[group]
        return {partition: known[partition] for partition in partitions if partition in known}

    def store(self, group: str, positions: Mapping[Partition, Committed]) -> None:
        self._committed[group].update(positions)

    def everything(self) -> dict[str, list[Record]]:
        """What a new reader of any topic is given."""
        found: dict[str, list[Record]] = defaultdict(list)
        for partition, segment in self._segments.items():
            found[partition.topic] += segment.records
        return found

    # Cleaning

    def clean(self, *, lag_ms: int, tombstone_ms: int) -> None:
        """What the log cleaner does: of what is older than `lag_ms`, the last record of each key stays.

        A tombstone goes once it is older than `tombstone_ms`. The newest record of a partition always stays.
        """
        now = self._time.now_ms()
        for partition, segment in self._segments.items():
            if self._topics[partition.topic].cleanup is not Cleanup.COMPACT or not segment.records:
                continue
            newest = segment.records[-1].offset
            last = {record.key: record.offset for record in segment.records}
            kept = [
                record
                for record in segment.records
                if record.offset == newest
                or now - record.timestamp_ms < lag_ms
                or (
                    last[record.key] == record.offset
                    and not (record.value is None and now - record.timestamp_ms > tombstone_ms)
                )
            ]
            for record in set(segment.records).difference(kept):
                self._history.cleaned[record.position] = now
            segment.records = kept

    def retire(self, retention_ms: int) -> None:
        """What retention does: old records go. Those that a group has yet to read stay."""
        now = self._time.now_ms()
        for partition, segment in self._segments.items():
            if self._topics[partition.topic].cleanup is not Cleanup.DELETE or not segment.records:
                continue
            start = next((r.offset for r in segment.records if now - r.timestamp_ms <= retention_ms), segment.end)
            reserved = self.reserved(partition)
            if reserved is not None:
                self.retired += 1
                self.truncate(partition, min(start, reserved))

    def _lowest_commit(self, partition: Partition) -> int | None:
        """None where nobody has stored a position: nothing is known to have been read."""
        offsets = [stored[partition].offset for stored in self._committed.values() if partition in stored]
        return min(offsets) if offsets else None
