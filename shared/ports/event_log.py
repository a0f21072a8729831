"""The log: append-only, partitioned, with explicit positions.

A reader is told where to begin and says where it stands; nothing is acknowledged behind its caller's back. A publisher
keeps the order of its records within a partition, repeats none and loses none while it lives: after a failed
`flush` or a failed future its caller begins again from what the log holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from shared.events.topics import Topic


class Partition(NamedTuple):
    topic: str
    partition: int


class Position(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


# Where to begin reading, beside a plain offset.
START: Final = -2
END: Final = -1


class Record(NamedTuple):
    """A record as it stands in the log. `timestamp_ms` is Unix time in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def position(self) -> Position:
        return Position(self.topic, self.partition, self.offset)

    def header(self, name: str) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


class NewRecord(NamedTuple):
    """A record to be appended.

    The partition is `partition` if given; else the murmur2 hash of `partition_key`, else of `key`, as every Kafka
    client computes it.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition_key: bytes | None = None
    partition: int | None = None


class LogError(Exception):
    """The log refused or could not be reached within the deadline; the message says which."""


class RecordTooLargeError(LogError):
    """The record is larger than the topic allows; it was not sent."""


class WriterReplacedError(LogError):
    """A newer publisher of the same writer was opened: what this one sent is not in the log, and never will be."""


class Publisher(Protocol):
    async def send(self, record: NewRecord) -> Awaitable[Position]:
        """Queues a record; waits only while the buffer is full. Await what it returns for the acknowledgement.

        After a record that could not be delivered every later `send` and `flush` raises: what followed it may
        not stand in the log without it.

        Raises:
            RecordTooLargeError: nothing was queued, and the publisher goes on.
            LogError: this record, or one before it, could not be delivered.
        """

    async def send_many(self, records: Sequence[NewRecord]) -> None:
        """Queues records in their order, as `send` does, for a fraction of its cost; `flush` tells of their fate.

        Raises:
            RecordTooLargeError, LogError: as named; the records before the one that is to blame may have been queued.
        """

    async def flush(self) -> None:
        """Returns when all that was sent is acknowledged. Raises LogError if any of it was not."""

    async def close(self) -> None: ...


class Reader(Protocol):
    async def assign(self, positions: Mapping[Partition, int]) -> None:
        """Reads these partitions, and no others, from an offset, START or END."""

    async def read(self, *, max_records: int = 1000, timeout_s: float = 1.0) -> Sequence[Record]:
        """The next records, in order within each partition; empty if none came within the time.

        Raises:
            LogError: the position is no longer in the log, or the broker is away for too long.
        """

    def positions(self) -> Mapping[Partition, int]:
        """The next offset to be read, by partition."""

    async def end_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The offset behind the last record, by partition."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Committed:
    """A position that was stored under a name, with a short text beside it (at most 4,000 bytes)."""

    offset: int
    metadata: str = ""


class EventLog(Protocol):
    """A connection to the log."""

    async def ensure_topics(self, topics: Iterable[Topic]) -> None:
        """Creates the topics that do not exist yet. Raises LogError."""

    async def partitions(self, topic: str) -> Sequence[Partition]:
        """The partitions of a topic; empty if it does not exist."""

    async def publisher(self, client_id: str) -> Publisher: ...

    async def sole_publisher(self, client_id: str, writer: str, announce: Iterable[Partition] = ()) -> Publisher:
        """A publisher that replaces every earlier one of `writer`, in whichever process.

        What these still send to a partition is refused (WriterReplacedError) once this one has written there, and in
        the partitions of `announce` from now on. Raises LogError.
        """

    async def reader(self, client_id: str) -> Reader: ...

    async def committed(self, group: str, partitions: Iterable[Partition]) -> Mapping[Partition, Committed]:
        """What was stored under `group`; partitions without are absent."""

    async def commit(self, group: str, positions: Mapping[Partition, Committed]) -> None:
        """Stores positions under `group`. Raises LogError."""

    async def close(self) -> None: ...
