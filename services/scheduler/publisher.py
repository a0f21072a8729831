"""Publishes what the journal says: placements and commands, in its order, with its offsets as generations.

Follows the journal from the last checkpoint on, whatever the leader has in memory. After a crash some records are
published again, with the same content: readers take only higher generations. A checkpoint is committed only after
everything before it is acknowledged.

What the leader itself appended need not be read back: it is known, and once it is acknowledged so is its offset.
Offsets without a gap leave no room for anything else, such as the marker of a higher epoch; wherever there is a gap,
the journal is read. So it is the order of the journal alone that decides here as everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.scheduler import metrics
from services.scheduler.decision.asked.rendering import render_commands
from services.scheduler.decision.derivation import CommandRecord, Derived, PlacementRecord, derive
from services.scheduler.decision.fence import EpochFence
from services.scheduler.journal import (
    Checkpoint,
    JournalEntry,
    decode_entry,
    is_entry,
    journal_partition,
    publisher_group,
)
from services.scheduler.turns import Turn, rest
from shared.events.envelope import Envelope
from shared.events.topics import (
    COMMAND_ISSUED,
    COMMANDS_PREFIX,
    PLACEMENT_PUBLISHED,
    PLACEMENTS,
    REQUESTS,
    commands_topic,
)
from shared.events.v1.decisions import Decision, DecisionsMade, EpochStarted, Positions
from shared.events.v1.placements import PlacementPublished
from shared.model.identities import WORKLOAD_SUBJECT
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, NewRecord, Position, Publisher, Reader
from shared.runtime.ids import new_id

log = get_logger(__name__)

COMMIT_EVERY_S = 0.5
# So many entries that say nothing but that the leader is there may stand behind the checkpoint.
_RENEWALS = 10
_BATCH = 500
# The broker takes 4,096.
_MAX_METADATA_BYTES = 4000
_LATENCY_WINDOW_S = 120.0
# An entry is published at once unless it is larger: what goes in pieces goes in more requests to the broker.
_SLICE_S = 0.005
# Entries of our own that were not published yet; most of them decide on one workload again and again.
_MOST_OWN = 256


_NOTHING_SAID: Mapping[int, bytes] = {}


class FencedError(Exception):
    """Another replica started a higher epoch: this one no longer leads."""


@dataclass(frozen=True, slots=True)
class _Appended:
    """An entry of our own, on its way to the journal or there. `encoded` are its decisions as they stand there."""

    entry: DecisionsMade
    acknowledgement: Awaitable[Position]
    encoded: Sequence[bytes]


def encode_placement(published: PlacementPublished, said: Mapping[int, bytes]) -> bytes:
    """A record of `fleet.placements`; of what was decided is taken what `said` has of it, by identity."""
    text = said.get(id(published.placement))
    if text is None or published.rejection is not None:
        return published.to_json()
    head = f'{{"epoch":{published.epoch},"generation":{published.generation},"decidedAt":{published.decided_at}'
    return b'%s,"placement":%s}' % (head.encode(), text)


async def _send(publisher: Publisher, records: Sequence[NewRecord]) -> None:
    await publisher.send_many(records)
    placements = sum(record.topic == PLACEMENTS.name for record in records)
    metrics.PUBLISHED.labels("placement").inc(placements)
    metrics.PUBLISHED.labels("command").inc(len(records) - placements)


class JournalPublisher:
    """`on_generation(decision, offset)` is told once of every decision of our own epoch as its offset becomes known.

    `progress` is set whenever decisions of our own epoch were published.
    """

    def __init__(
        self,
        events: EventLog,
        clock: Clock,
        cell: int,
        checkpoint: Checkpoint,
        published: dict[str, PlacementPublished],
        on_generation: Callable[[Decision, int], None],
        progress: asyncio.Event,
    ) -> None:
        self._events = events
        self._clock = clock
        self._cell = cell
        self._checkpoint = checkpoint
        self._fence: EpochFence = checkpoint.fence
        self._inputs: Positions = dict(checkpoint.inputs or {})
        self._ahead = checkpoint.ahead
        self._resigned = checkpoint.resigned
        self._published = published
        self._on_generation = on_generation
        self._served: set[str] = set()
        self._own: asyncio.Queue[_Appended] = asyncio.Queue(maxsize=_MOST_OWN)
        self._committed_offset = checkpoint.offset
        # Whether a successor who reads from the checkpoint on reads more than a few renewals.
        self._to_keep = asyncio.Event()
        self.position = checkpoint.offset
        # When the journal last told of anything: a leader that appends hears of its own entries.
        self.heard_at = clock.monotonic()
        # Entries with decisions of our own epoch that were published, and whether one is being published now.
        self.published_own = 0
        self.publishing = False
        self._progress = progress

    async def run(self, reader: Reader, publisher: Publisher, epoch: int, begin: int) -> None:
        """Publishes until cancelled: what stands before `begin`, then our own entries and whatever stands in between.

        Raises FencedError when the journal has a higher epoch than `epoch`, and LogError.
        """
        if self._checkpoint.epoch > epoch:
            # The marker stands before the checkpoint of whoever replaced us meanwhile: it would never be read.
            raise FencedError(f"{self._checkpoint.leader} started epoch {self._checkpoint.epoch}")
        await self._read(reader, publisher, epoch, begin)
        while True:
            appended = await self._own.get()
            offset = (await appended.acknowledgement).offset
            self.publishing = True
            if offset > self.position:
                await self._read(reader, publisher, epoch, offset)
            # It may have been read already, by who looked for what stands before it.
            if offset == self.position:
                await self._take(publisher, appended.entry, offset, epoch, appended.encoded)
            self.publishing = False
            self._own.task_done()
            if not self._own.empty():
                await rest()

    async def expect(
        self, entry: DecisionsMade, acknowledgement: Awaitable[Position], encoded: Sequence[bytes] = ()
    ) -> None:
        """An entry of our own was sent to the journal; `encoded` are its decisions in JSON, if that is known.

        Waits while too many entries are not published yet.
        """
        await self._own.put(_Appended(entry, acknowledgement, encoded))

    async def all_published(self) -> None:
        """Returns when everything that was expected is published."""
        await self._own.join()

    async def _read(self, reader: Reader, publisher: Publisher, epoch: int, end: int) -> None:
        """Publishes what the journal has before `end`, and may have behind it already."""
        partition = journal_partition(self._cell)
        await reader.assign({partition: self.position})
        self.position = reader.positions()[partition]
        while self.position < end:
            for record in await reader.read(max_records=_BATCH, timeout_s=COMMIT_EVERY_S):
                if is_entry(record):
                    await self._take(publisher, decode_entry(record), record.offset, epoch)
            self.position = reader.positions()[partition]
        await reader.assign({})

    async def _take(
        self, publisher: Publisher, entry: JournalEntry, offset: int, epoch: int, encoded: Sequence[bytes] = ()
    ) -> None:
        self.heard_at = self._clock.monotonic()
        if not self._fence.admits(entry):
            self.position = offset + 1
        elif isinstance(entry, EpochStarted):
            self._heed(entry, epoch)
            self.position = offset + 1
            self._resigned = False
        else:
            await self._publish(publisher, entry, offset, encoded, own=entry.epoch == epoch)

    def _heed(self, marker: EpochStarted, epoch: int) -> None:
        if marker.epoch > epoch:
            raise FencedError(f"{marker.leader} started epoch {marker.epoch}")

    async def republish(self, publisher: Publisher, cluster: str, key: str) -> None:
        """Sends a cluster again what is asked of it, or that nothing is: an older record may stand last."""
        current = self._published.get(key)
        commands = (
            render_commands(current.placement, current.epoch, current.generation)
            if current is not None and current.placement is not None
            else []
        )
        command = next((command for command in commands if command.cluster == cluster), None)
        epoch, generation = (
            (command.epoch, command.generation) if command is not None else (self._fence.epoch, self.position)
        )
        again = CommandRecord(cluster, f"{WORKLOAD_SUBJECT}{key}", command, generation)
        await _send(publisher, [await self._record(again, epoch)])

    async def restate(self, publisher: Publisher, key: str) -> None:
        """Sends a workload's placement again, or that it has none: an older record may stand last."""
        current = self._published.get(key)
        # That there is none is so as of everything before our position.
        generation = current.generation if current is not None else self.position
        again = PlacementRecord(key, current, generation)
        await _send(publisher, [await self._record(again, self._fence.epoch)])

    async def _publish(
        self, publisher: Publisher, batch: DecisionsMade, offset: int, encoded: Sequence[bytes], *, own: bool
    ) -> None:
        said = {id(decision): text for decision, text in zip(batch.decisions, encoded, strict=False)}
        turn, records = Turn(self._clock, _SLICE_S), list[NewRecord]()
        for derived in derive(self._published, batch, offset):
            records.append(await self._record(derived, batch.epoch, said))
            if own and isinstance(derived, PlacementRecord):
                self._measure(derived, offset)
            if turn.over:
                await _send(publisher, records)
                records = []
                await turn.go_on()
        await _send(publisher, records)
        # Without a pause in between: a checkpoint may be taken at any other time.
        self.position = offset + 1
        if batch.decisions or batch.inputs or self.position - self._committed_offset >= _RENEWALS:
            self._to_keep.set()
        self._inputs |= batch.inputs
        if REQUESTS.name in batch.inputs:
            self._ahead = batch.ahead
        self._resigned = batch.resigned
        if own:
            for decision in batch.decisions:
                self._on_generation(decision, offset)
            if batch.decisions:
                self.published_own += 1
                self._progress.set()

    def _measure(self, record: PlacementRecord, offset: int) -> None:
        published = record.placement
        if published is None or published.placement is None or published.generation != offset:
            return
        waited = (self._clock.now_ms() - published.placement.request.published_at) / 1000
        if 0 <= waited < _LATENCY_WINDOW_S:
            metrics.REQUEST_TO_PLACEMENT_SECONDS.observe(waited)

    async def _record(self, derived: Derived, epoch: int, said: Mapping[int, bytes] = _NOTHING_SAID) -> NewRecord:
        """`said` has decisions that are JSON already, by identity."""
        if isinstance(derived, PlacementRecord):
            topic, key, kind = PLACEMENTS.name, derived.key, PLACEMENT_PUBLISHED
            value = encode_placement(derived.placement, said) if derived.placement else None
        else:
            topic, key, kind = await self._commands_topic(derived.cluster), derived.subject, COMMAND_ISSUED
            value = derived.command.to_json() if derived.command else None
        envelope = Envelope(
            id=new_id(),
            source="flotilla/scheduler",
            type=kind.ce_type,
            time_ms=self._clock.now_ms(),
            subject=key,
            traceparent=derived.traceparent,
            epoch=epoch,
            seq=derived.generation,
        )
        return NewRecord(topic, key.encode(), value, envelope.to_headers())

    async def ensure_topics(self, clusters: Iterable[str]) -> None:
        """Creates the command topics of clusters that have none yet: their executors wait for them."""
        new = [cluster for cluster in clusters if cluster not in self._served]
        if new:
            await self._events.ensure_topics(map(commands_topic, new))
            self._served.update(new)

    async def _commands_topic(self, cluster: str) -> str:
        if cluster not in self._served:
            await self.ensure_topics([cluster])
        return f"{COMMANDS_PREFIX}{cluster}"

    async def keep_checkpoint(self, publisher: Publisher) -> None:
        """Until cancelled. Beside the publishing, which does not wait for it. Raises LogError."""
        while True:
            await self._to_keep.wait()
            await self._clock.sleep(COMMIT_EVERY_S)
            self._to_keep.clear()
            await self.commit(publisher)

    async def commit(self, publisher: Publisher) -> None:
        """Waits for every acknowledgement, then stores the checkpoint. Raises LogError.

        While so many namespaces wait for their turns that it would be too large, the last one stands: a successor then
        reads more of the journal.
        """
        offset = self.position
        fence = self._fence
        checkpoint = Checkpoint(offset, fence.epoch, fence.leader, self._inputs, self._ahead, self._resigned)
        stored = checkpoint.to_committed()
        await publisher.flush()
        if len(stored.metadata.encode()) <= _MAX_METADATA_BYTES:
            await self._events.commit(publisher_group(self._cell), {journal_partition(self._cell): stored})
            self._committed_offset = offset
