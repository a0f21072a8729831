"""One life of the state: restored from the log, then carried on record by record.

Restoring reads, in this order, the statuses that were published, the phase changes behind the stored positions, and
then placements and objects from their start and results from their stored positions, up to where the log ended.
Positions are stored only after all that follows from the records before them is acknowledged, so a crash repeats
records and loses none; what is repeated is recognised by what was published.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.status import metrics
from services.status.decision.machine import StatusMachine
from services.status.decision.messages import BatchEnded, CaughtUp, TimeAdvanced
from services.status.holdings import Holdings
from services.status.intake import Intake
from services.status.measures import Measures
from services.status.outbox import Outbox
from services.status.positions import (
    GROUP,
    HISTORY,
    INPUTS,
    STATUSES,
    Stored,
    assign_from,
    in_time_order,
    reached,
)
from services.status.read_model import Contents, ReadModel
from services.status.settings import StatusSettings
from shared.events.registry import DecodeError
from shared.events.topics import EVENTS, INVENTORIES, OBJECTS, PLACEMENTS, RESULTS, SCALING, WAITING
from shared.events.v1.read_model import WORKLOADS_TABLE
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import Committed, EventLog, NewRecord, Partition, Publisher, Reader, Record
from shared.runtime.dead_letters import dead_letter

log = get_logger(__name__)

_IDLE_S = 0.2
_LEAST_READ_S = 0.001
# Stored positions of a group without members expire after days: they are stored again now and then, changed or not.
_STORE_ANYWAY_S = 600.0
_OWN = (*STATUSES, *HISTORY)
_FROM_THEIR_START = (OBJECTS.name, INVENTORIES.name, SCALING.name, WAITING.name)


@dataclass(frozen=True, slots=True)
class _Horizon:
    """The log ended here at `at_ms`: once all of it was read, what was not heard of by then is silent."""

    at_ms: int
    ends: dict[Partition, int]


@dataclass(frozen=True, slots=True)
class Readers:
    """A reader for each use: a question on a connection that waits for records is answered only when some come."""

    inputs: Reader
    statuses: Reader
    history: Reader
    ends: Reader


class Session:
    def __init__(
        self,
        events: EventLog,
        readers: Readers,
        publisher: Publisher,
        machine: StatusMachine,
        read_model: ReadModel,
        clock: Clock,
        settings: StatusSettings,
    ) -> None:
        self._log = events
        self._readers = readers
        self._reader = readers.inputs
        self._machine = machine
        self._read_model = read_model
        self._clock = clock
        self._settings = settings
        self._intake = Intake(self._told)
        self._holdings = Holdings(events, clock, settings.status_doubt_s)
        self._outbox = Outbox(publisher, read_model, clock)
        self._stored = Stored({})
        self._committed: dict[Partition, int] = {}
        self._committed_at = 0.0
        self._batches = 0
        self._measures = Measures(machine)

    async def restore(self, stop: asyncio.Event) -> bool:
        """Knows everything afterwards, and has told what was not told yet; False if it was stopped before that.

        Raises:
            LogError: the log failed; another session must begin.
        """
        began = self._clock.monotonic()
        self._stored = await Stored.load(self._log)
        await self._read_statuses(stop)
        await self._read_up(self._readers.history, HISTORY, stop, resumed=EVENTS.name)
        self._outbox.history = dict(self._readers.history.positions())
        for reader in (self._readers.statuses, self._readers.history):
            await reader.assign({})
        horizon = await self._read_up(self._reader, INPUTS, stop, resumed=RESULTS.name)
        if not reached(self._reader.positions(), horizon.ends):
            return False
        self._intake.live = True
        self._holdings.trusted = horizon.ends
        await self._tell(CaughtUp(id=self._id("caught-up"), at_ms=horizon.at_ms))
        self._read_model.refill(self._contents())
        await self._commit()
        workloads = sum(self._machine.phases().values())
        log.info("caught up", workloads=workloads, seconds=round(self._clock.monotonic() - began, 2))
        return True

    async def follow(self, stop: asyncio.Event) -> None:
        """Goes on until it is stopped; everything is told and stored then. Raises LogError."""
        horizon: _Horizon | None = None
        tick_at = self._clock.monotonic() + self._settings.status_tick_s
        while not stop.is_set():
            within = max(tick_at - self._clock.monotonic(), _LEAST_READ_S)
            await self._step(await self._reader.read(max_records=self._settings.status_batch, timeout_s=within))
            if self._clock.monotonic() >= tick_at:
                tick_at = self._clock.monotonic() + self._settings.status_tick_s
                await self._commit()
                latest = await self._look_ahead(self._reader.positions())
                now_s = self._clock.monotonic()
                self._measures.take(self._reader.positions(), latest.ends, now_ms=latest.at_ms, now_s=now_s)
                horizon = horizon or latest
            if horizon is not None and reached(self._reader.positions(), horizon.ends):
                await self._tell(TimeAdvanced(id=self._id("time"), at_ms=horizon.at_ms))
                horizon = None
        await self._commit()

    async def _read_up(
        self, reader: Reader, topics: tuple[str, ...], stop: asyncio.Event, *, resumed: str = ""
    ) -> _Horizon:
        """Reads topics up to their present ends; `resumed` from its stored positions, the others from their start."""
        partitions = [partition for topic in topics for partition in await self._log.partitions(topic)]
        horizon = await self._look_ahead(partitions)
        stored = {p: at for p, at in self._stored.offsets.items() if p.topic == resumed}
        await assign_from(reader, stored, horizon.ends)
        while not stop.is_set() and not reached(reader.positions(), horizon.ends):
            await self._step(await reader.read(max_records=self._settings.status_batch, timeout_s=_IDLE_S))
        return horizon

    async def _read_statuses(self, stop: asyncio.Event) -> None:
        """What was published last of each workload; what was published before that is not even decoded."""
        reader = self._readers.statuses
        partitions = [partition for topic in STATUSES for partition in await self._log.partitions(topic)]
        ends = (await self._look_ahead(partitions)).ends
        await assign_from(reader, {}, ends)
        latest: dict[bytes | None, Record] = {}
        while not stop.is_set() and not reached(reader.positions(), ends):
            records = await reader.read(max_records=self._settings.status_batch, timeout_s=_IDLE_S)
            latest.update((record.key, record) for record in records)
        unread = list(latest.values())
        latest.clear()
        while unread and not stop.is_set():
            await self._step([unread.pop() for _ in range(min(len(unread), self._settings.status_batch))])

    async def _look_ahead(self, partitions: Iterable[Partition]) -> _Horizon:
        at_ms = self._clock.now_ms()
        return _Horizon(at_ms, dict(await self._readers.ends.end_offsets(partitions)))

    async def _step(self, records: Sequence[Record]) -> None:
        """One batch: all of its records are folded, and what follows is acknowledged."""
        if not records:
            return
        began = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        for topic, number in Counter(record.topic for record in records).items():
            metrics.RECORDS.labels(topic).inc(number)
        ordered = in_time_order(records)
        letters = [letter for record in ordered if (letter := self._fold(record, now_ms)) is not None]
        letters += await self._settle()
        await self._tell(BatchEnded(id=self._id("batch"), at_ms=now_ms), letters)
        metrics.BATCH_SECONDS.observe(self._clock.monotonic() - began)

    async def _settle(self) -> Sequence[NewRecord]:
        """Puts right what is held otherwise than it should be; returns what the log is to be told of it."""
        stimuli, letters = await self._holdings.settle(self._reader.positions())
        for stimulus in stimuli:
            self._machine.handle(stimulus)
        return letters

    async def _tell(self, end: BatchEnded | CaughtUp | TimeAdvanced, letters: Sequence[NewRecord] = ()) -> None:
        """All that follows from what was folded is acknowledged afterwards; others get their turn in between."""
        await self._outbox.deliver(self._machine.handle(end), letters)
        await asyncio.sleep(0)
        while self._machine.unsettled:
            await self._outbox.deliver(self._machine.handle(BatchEnded(id=end.id, at_ms=end.at_ms)))
            await asyncio.sleep(0)

    def _fold(self, record: Record, now_ms: int) -> NewRecord | None:
        """Feeds one record to the machine. Returns a dead letter if it cannot be read."""
        if record.topic == OBJECTS.name:
            self._holdings.take(record)
        try:
            stimulus = self._intake.stimulus(record, now_ms)
        except DecodeError as error:
            return self._refuse(record, error)
        if stimulus is None:
            return None
        self._machine.handle(stimulus)
        return None

    def _refuse(self, record: Record, error: DecodeError) -> NewRecord | None:
        """A record that is read again at every start is a dead letter only the first time, as far as that is known."""
        first = error.errors[0]
        log.warning("record refused", position=str(record.position), field=first.field, reason=first.reason)
        metrics.DEAD_LETTERS.labels(record.topic).inc()
        read_anew = record.topic in _OWN or (record.topic in _FROM_THEIR_START and not self._intake.live)
        again = read_anew or self._told(record)
        return None if again else dead_letter(record, error.errors)

    def _told(self, record: Record) -> bool:
        return self._stored.told(Partition(record.topic, record.partition), record.offset)

    async def _commit(self) -> None:
        """Stores how far everything is told. Raises LogError."""
        held = self._machine.held_offsets()
        positions = {p: at for p, at in self._reader.positions().items() if p.topic in {PLACEMENTS.name, RESULTS.name}}
        for partition, offset in held.items():
            key = Partition(RESULTS.name, partition)
            positions[key] = min(offset, positions.get(key, offset))
        positions |= self._outbox.history
        now = self._clock.monotonic()
        if positions != self._committed or now - self._committed_at >= _STORE_ANYWAY_S:
            await self._log.commit(GROUP, {partition: Committed(offset) for partition, offset in positions.items()})
            self._committed, self._committed_at = positions, now

    def _contents(self) -> Contents:
        """What the read model should hold, whenever it is asked."""
        machine = self._machine

        def contents(table: str) -> list[tuple[str, bytes]]:
            values = machine.statuses() if table == WORKLOADS_TABLE else machine.clusters()
            return [(key, value.to_json()) for key, value in values]

        return contents

    def _id(self, what: str) -> str:
        self._batches += 1
        return f"{what}/{self._batches}"
