"""A process's connection to the log: the `EventLog` port, over a link on which everything can happen.

Appends of one publisher to one partition stay in order and are never repeated by the connection itself, as an
idempotent Kafka producer's are; between partitions they overtake one another. A reader sees each partition grow in its
own time. A publisher's buffer is part of its process: what was not on its way yet dies or sleeps with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from shared.events.topics import DECISIONS, Topic
from shared.ports.event_log import (
    END,
    START,
    Committed,
    LogError,
    NewRecord,
    Partition,
    Position,
    Record,
    WriterReplacedError,
)
from tests.simulation.broker import Broker
from tests.simulation.futures import fail, resolve
from tests.simulation.links import PATIENCE_S, Link, Mishap
from tests.simulation.loop import WORLD
from tests.simulation.process import Process

T = TypeVar("T")
_Waiting = deque[tuple[NewRecord, asyncio.Future[Position]]]


class SimLog:
    def __init__(self, process: Process, broker: Broker, link: Link) -> None:
        self._process = process
        self._broker = broker
        self._link = link

    async def ensure_topics(self, topics: Iterable[Topic]) -> None:
        wanted = list(topics)
        await self.ask("ensure topics", lambda: self._broker.create(wanted))

    async def partitions(self, topic: str) -> Sequence[Partition]:
        return await self.ask("partitions", lambda: self._broker.partitions_of(topic))

    async def publisher(self, client_id: str) -> SimPublisher:
        del client_id
        await self.ask("connect", lambda: None)
        return SimPublisher(self._process, self._broker, self._link)

    async def sole_publisher(self, client_id: str, writer: str, announce: Iterable[Partition] = ()) -> SimPublisher:
        del client_id
        told = list(announce)
        epoch = await self.ask("replace a writer", lambda: self._broker.replace_writer(writer, told))
        return SimPublisher(self._process, self._broker, self._link, (writer, epoch))

    async def reader(self, client_id: str) -> SimReader:
        del client_id
        await self.ask("connect", lambda: None)
        return SimReader(self, self._process, self._broker, self._link)

    async def committed(self, group: str, partitions: Iterable[Partition]) -> Mapping[Partition, Committed]:
        wanted = list(partitions)
        return await self.ask("committed", lambda: self._broker.stored(group, wanted))

    async def commit(self, group: str, positions: Mapping[Partition, Committed]) -> None:
        given = dict(positions)
        await self.ask("commit", lambda: self._broker.store(group, given))

    async def close(self) -> None:
        """The process's connections end with it."""

    async def ask(self, what: str, do: Callable[[], T]) -> T:
        """One request and its answer. Raises LogError."""
        process, link, loop = self._process, self._link, self._process.loop
        process.effect(what)
        answer: asyncio.Future[T] = loop.create_future()
        mishap = link.mishap()
        lost = LogError(f"{what}: no answer from the log")

        def arrive() -> None:
            # What a dead process sent may have left it in time or not.
            if not process.alive and link.rng.random() < 0.5:
                return
            try:
                result = do()
            except LogError as error:
                fail(answer, error)
                return
            if mishap is None:
                loop.call_later(link.delay(), resolve, answer, result, context=WORLD)

        wait = link.arrival()
        if mishap is Mishap.REFUSED:
            loop.call_later(link.delay(), fail, answer, LogError(f"{what}: refused"), context=WORLD)
        elif mishap is not None or wait > PATIENCE_S:
            loop.call_later(PATIENCE_S, fail, answer, lost, context=WORLD)
        if mishap in (None, Mishap.UNANSWERED) and wait <= PATIENCE_S:
            loop.call_later(wait, arrive, context=WORLD)
        return await answer


class _Channel:
    """What a publisher has on its way to one partition: `sent` of the waiting records have left the process."""

    __slots__ = ("held", "timer", "waiting")

    def __init__(self) -> None:
        self.waiting: _Waiting = deque()
        self.held: _Waiting = deque()
        self.timer: asyncio.TimerHandle | None = None


class SimPublisher:
    """`writer` is the name and the epoch of one who has to be the newest of that name."""

    def __init__(self, process: Process, broker: Broker, link: Link, writer: tuple[str, int] | None = None) -> None:
        self._process = process
        self._loop = process.loop
        self._broker = broker
        self._link = link
        self._writer = writer
        self._channels: dict[Partition, _Channel] = {}
        self._unanswered = 0
        self._flushers: list[asyncio.Future[None]] = []
        self._error: LogError | None = None
        self._closed = False
        process.when_severed(self._sever)
        process.when_paused(self._freeze)

    async def send(self, record: NewRecord) -> Awaitable[Position]:
        self._process.effect(f"send to {record.topic}")
        if self._closed:
            raise LogError("the publisher is closed")
        if self._error is not None:
            raise type(self._error)(str(self._error))
        partition = self._broker.place(record)
        acknowledged: asyncio.Future[Position] = self._loop.create_future()
        channel = self._channels.setdefault(partition, _Channel())
        channel.waiting.append((record, acknowledged))
        self._unanswered += 1
        if channel.timer is None:
            self._arm(partition, channel)
        return acknowledged

    async def send_many(self, records: Sequence[NewRecord]) -> None:
        for record in records:
            await self.send(record)

    async def flush(self) -> None:
        self._process.effect("flush")
        if self._error is not None:
            raise type(self._error)(str(self._error))
        if self._unanswered:
            done: asyncio.Future[None] = self._loop.create_future()
            self._flushers.append(done)
            await done

    async def close(self) -> None:
        """As the real one does, gives what is on its way its chance."""
        if not self._closed and self._error is None and self._process.alive:
            with suppress(LogError):  # whoever wanted to know has asked by `flush`
                await self.flush()
        self._closed = True

    def _arm(self, partition: Partition, channel: _Channel) -> None:
        wait = self._link.arrival()
        lost = wait > PATIENCE_S
        work = self._lose if lost else self._arrive
        channel.timer = self._loop.call_later(min(wait, PATIENCE_S), work, partition, channel, context=WORLD)

    def _arrive(self, partition: Partition, channel: _Channel) -> None:
        channel.timer = None
        mishap = self._link.mishap(follows=partition.topic != DECISIONS.name)
        if mishap in (Mishap.REFUSED, Mishap.LOST):
            self._break(LogError(f"{partition.topic}: {mishap}"))
            return
        if not self._broker.admits(self._writer, partition):
            self._break(WriterReplacedError(f"{partition.topic}: a newer writer is there"))
            return
        leaderless_s = self._broker.leaderless_s(partition)
        if leaderless_s and self._broker.acks_all:
            channel.timer = self._loop.call_later(leaderless_s, self._arrive, partition, channel, context=WORLD)
            return
        batch, channel.waiting = channel.waiting, deque()
        if leaderless_s:
            # The broker that is cut off takes it, and its successor never had it.
            end = Position(partition.topic, partition.partition, self._broker.segment(partition).end)
            answers = [(future, end) for _, future in batch]
        else:
            answers = [(future, self._append(record, partition)) for record, future in batch]
        if mishap is Mishap.UNANSWERED:
            self._break(LogError(f"{partition.topic}: no acknowledgement"), (future for future, _ in answers))
        else:
            self._loop.call_later(self._link.delay(), self._acknowledge, answers, context=WORLD)

    def _append(self, record: NewRecord, partition: Partition) -> Position:
        return self._broker.accept(record, str(self._process), partition)

    def _acknowledge(self, answers: list[tuple[asyncio.Future[Position], Position]]) -> None:
        for future, position in answers:
            resolve(future, position)
        self._unanswered -= len(answers)
        if not self._unanswered:
            self._release(None)

    def _lose(self, partition: Partition, channel: _Channel) -> None:
        """The log was away for too long: what was on its way may have arrived, or a part of it from its beginning."""
        del channel
        self._break(LogError(f"{partition.topic}: the log is away"))

    def _land_some(self, partition: Partition, channel: _Channel) -> None:
        if not self._broker.admits(self._writer, partition):
            return
        for _ in range(self._link.rng.randint(0, len(channel.waiting))):
            record, _ = channel.waiting.popleft()
            self._append(record, partition)

    def _break(self, error: LogError, also: Iterable[asyncio.Future[Position]] = ()) -> None:
        """Nobody knows now what the log has; other partitions may get what was on its way to them."""
        self._error = error
        failed = list(also)
        for partition, channel in self._channels.items():
            failed += [future for _, future in (*channel.waiting, *channel.held)]
            if channel.timer is not None:
                channel.timer.cancel()
                channel.timer = None
                self._land_some(partition, channel)
            channel.waiting.clear()
            channel.held.clear()
        for future in failed:
            fail(future, type(error)(str(error)))
        self._release(error)

    def _release(self, error: LogError | None) -> None:
        flushers, self._flushers = self._flushers, []
        for future in flushers:
            if error is not None:
                fail(future, type(error)(str(error)))
            else:
                resolve(future, None)

    def _sever(self) -> None:
        self._closed = True
        for partition, channel in self._channels.items():
            if channel.timer is not None:
                channel.timer.cancel()
                self._land_some(partition, channel)
            channel.waiting.clear()
            channel.held.clear()

    def _freeze(self, paused: bool) -> None:
        """Of what waits, some has left the process already; the rest leaves when it goes on."""
        for partition, channel in self._channels.items():
            if paused and channel.waiting:
                for _ in range(self._link.rng.randint(0, len(channel.waiting))):
                    channel.held.appendleft(channel.waiting.pop())
            elif not paused and channel.held:
                channel.waiting.extend(channel.held)
                channel.held.clear()
                if channel.timer is None:
                    self._arm(partition, channel)


class SimReader:
    def __init__(self, log: SimLog, process: Process, broker: Broker, link: Link) -> None:
        self._log = log
        self._process = process
        self._loop = process.loop
        self._broker = broker
        self._link = link
        self._positions: dict[Partition, int] = {}
        self._visible: dict[Partition, int] = {}
        # Partitions that may have something to be read, in the order in which it came.
        self._fresh: dict[Partition, None] = {}
        self._retired = broker.retired
        self._underway: set[Partition] = set()
        self._waiter: asyncio.Future[None] | None = None
        process.when_severed(self._unsubscribe)

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        self._process.effect("assign")
        given = dict(positions)
        resolved = given
        if any(offset in (START, END) for offset in given.values()):
            resolved = await self._log.ask("offsets", lambda: self._broker.resolve(given))
        self._unsubscribe()
        self._positions = resolved
        self._visible = {partition: self._broker.segment(partition).end for partition in resolved}
        self._fresh = dict.fromkeys(resolved)
        self._retired = -1
        for partition in resolved:
            self._broker.subscribers[partition].append(self)

    async def read(self, *, max_records: int = 1000, timeout_s: float = 1.0) -> Sequence[Record]:
        self._process.effect("read")
        if self._link.lost:
            raise LogError("the log is away")
        if self._link.portion:
            # What the log gives at once is its own affair, and the next portion is another request.
            max_records = min(max_records, self._link.portion)
            await asyncio.sleep(self._link.delay())
        records = self._take(max_records) if self._fresh or self._retired != self._broker.retired else []
        if not records:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiter = waiter
            self._link.listeners[waiter] = None
            timer = self._loop.call_later(timeout_s, resolve, waiter, None)
            try:
                await waiter
            finally:
                timer.cancel()
                del self._link.listeners[waiter]
                self._waiter = None
            self._process.effect("read")
            if self._link.lost:
                raise LogError("the log is away")
            records = self._take(max_records)
        return records

    def _take(self, limit: int) -> list[Record]:
        records: list[Record] = []
        if self._retired != self._broker.retired:
            self._retired = self._broker.retired
            for partition, offset in self._positions.items():
                if offset < self._broker.segment(partition).start:
                    raise LogError(f"the position is no longer in the log: {partition} {offset}")
        while self._fresh and len(records) < limit:
            partition = next(iter(self._fresh))
            offset, visible = self._positions[partition], self._visible[partition]
            segment = self._broker.segment(partition)
            if offset > segment.end:
                raise LogError(f"the position is no longer in the log: {partition} {offset}")
            taken = [r for r in segment.since(offset, limit - len(records)) if r.offset < visible]
            records += taken
            if len(records) >= limit:
                self._positions[partition] = taken[-1].offset + 1
            else:
                # Compaction may have left nothing before what is visible: that is passed over, as it is in Kafka.
                self._positions[partition] = max(visible, offset)
                del self._fresh[partition]
        return records

    def positions(self) -> Mapping[Partition, int]:
        return dict(self._positions)

    async def end_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        wanted = list(partitions)
        return await self._log.ask("end offsets", lambda: {p: self._broker.segment(p).end for p in wanted})

    async def close(self) -> None:
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        for partition in self._positions:
            subscribers = self._broker.subscribers[partition]
            if self in subscribers:
                subscribers.remove(self)
        self._positions, self._visible, self._fresh = {}, {}, {}
        self._underway.clear()

    def appended(self, partition: Partition) -> None:
        if partition not in self._underway:
            self._underway.add(partition)
            self._loop.call_later(self._link.arrival(), self._arrived, partition, context=WORLD)

    def _arrived(self, partition: Partition) -> None:
        self._underway.discard(partition)
        if partition in self._visible:
            self._visible[partition] = self._broker.segment(partition).end
            self._fresh[partition] = None
            if self._waiter is not None:
                resolve(self._waiter, None)
