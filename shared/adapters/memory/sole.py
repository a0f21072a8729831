"""Publishers of which only the newest may write, as the broker has it: the fence of the log in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from shared.ports.event_log import NewRecord, Partition, Position, Publisher, WriterReplacedError


class Fences:
    """Which epoch of each writer every partition has seen."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = defaultdict(int)
        self._seen: dict[tuple[str, Partition], int] = {}

    def open(self, writer: str, announce: Iterable[Partition]) -> int:
        """The epoch of a new publisher of this writer."""
        self._epochs[writer] += 1
        for partition in announce:
            self._seen[writer, partition] = self._epochs[writer]
        return self._epochs[writer]

    def admits(self, writer: str, epoch: int, partition: Partition) -> bool:
        if epoch < self._seen.get((writer, partition), 0):
            return False
        self._seen[writer, partition] = epoch
        return True


class SolePublisher:
    """`inner`, as long as no newer one has written to the same partition; `place` says where a record goes."""

    def __init__(
        self, inner: Publisher, fences: Fences, writer: str, epoch: int, place: Callable[[NewRecord], Partition]
    ) -> None:
        self._inner = inner
        self._fences = fences
        self._writer = writer
        self._epoch = epoch
        self._place = place
        self._replaced = False

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        self._replaced = self._replaced or not self._fences.admits(self._writer, self._epoch, self._place(record))
        self._check()
        return await self._inner.send(record)

    async def send_many(self, records: Sequence[NewRecord]) -> None:
        for record in records:
            await self.send(record)

    async def flush(self) -> None:
        self._check()
        await self._inner.flush()

    async def close(self) -> None:
        await self._inner.close()

    def _check(self) -> None:
        if self._replaced:
            raise WriterReplacedError(f"a newer publisher of {self._writer} was opened")
