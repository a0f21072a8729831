"""One replica's view of a cell: rebuilt from the log, then kept warm by following it.

Order of the rebuild: the publisher's checkpoint; `fleet.placements` (the workloads as of some point behind it);
the journal from the checkpoint on (whatever came later, in its order, so that older placements are overwritten);
objects and clusters from the start. A standby goes on following; it is ready to lead at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from services.scheduler import metrics
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.derivation import fold_published
from services.scheduler.decision.fence import EpochFence
from services.scheduler.decision.state import SchedulerState
from services.scheduler.inputs import (
    SAMPLE_TOPICS,
    STATE_TOPICS,
    cluster_of,
    fold_input,
    partitions_of,
    read_up,
)
from services.scheduler.journal import decode_entry, is_entry, is_of_another, journal_partition, load_checkpoint
from services.scheduler.placements import PlacementsRead
from services.scheduler.recording import Recorder
from shared.events.registry import DecodeError
from shared.events.topics import DECISIONS, PLACEMENTS, REQUESTS
from shared.events.v1.decisions import DecisionsMade, Positions, ReadAhead
from shared.events.v1.placements import PlacementPublished
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import END, START, EventLog, Partition, Reader, Record

log = get_logger(__name__)

_BATCH = 2000
_READ_S = 0.2
# A reading that takes so much longer than it was given was held up: by a pause of this process, most likely.
_AWAKE_S = 2.0
# A leader needs a few seconds to put right what stands in `fleet.placements`.
_GUARDED_S = 60.0
Refuse = Callable[[Record, DecodeError], None]


class Replica:
    """Folded state, and the readers that keep it up to date."""

    def __init__(
        self, events: EventLog, clock: Clock, config: SchedulerConfig, cell: int, name: str, refuse: Refuse
    ) -> None:
        self._events = events
        self._clock = clock
        self._cell = cell
        self._name = name
        self._refuse = refuse
        self.state = SchedulerState(config)
        # What was done to the state so far, for the first entry of the epoch in which this replica leads.
        self.record = Recorder()
        self.fence = EpochFence()
        self._placements = PlacementsRead()
        self.published: dict[str, PlacementPublished] = self._placements.published
        self.resume: Positions = {}
        self.resume_ahead: ReadAhead | None = None
        self.clusters: set[str] = set()
        # From where on nobody may have looked for such: whoever leads next has to.
        self.unguarded: dict[Partition, int] = {}
        self._written: dict[Partition, int] = {}
        self._written_at = clock.monotonic()
        # The leader said that it goes: nobody need wait until it has been silent for long.
        self.resigned = False
        # Up to where the inputs stood before anybody listened: when that came nobody knows but whoever wrote it.
        self._unheard: dict[Partition, int] = {}
        self._listened_at = clock.monotonic()
        self._inputs: Reader
        self._journal: Reader

    async def rebuild(self, stack: AsyncExitStack) -> None:
        """Reads the log to its end. Raises LogError, or DecodeError for a journal that cannot be read."""
        self._inputs = await self._open(stack, "inputs")
        self._journal = await self._open(stack, "journal")
        checkpoint = await load_checkpoint(self._events, self._cell)
        self.fence, self.resume = checkpoint.fence, dict(checkpoint.inputs or {})
        self.resume_ahead = checkpoint.ahead
        self.resigned = checkpoint.resigned
        await self._fold_placements()
        await self._journal.assign({journal_partition(self._cell): checkpoint.offset})
        await read_up(self._journal, lambda: self.follow_journal(_READ_S))
        wanted = dict.fromkeys(await partitions_of(self._events, STATE_TOPICS), START)
        wanted |= dict.fromkeys(await partitions_of(self._events, SAMPLE_TOPICS), END)
        await self._inputs.assign(wanted)
        await self._listen()
        await read_up(self._inputs, lambda: self.follow_inputs(_READ_S))
        log.info(
            "replica rebuilt", workloads=len(self.published), epoch=self.fence.epoch, journal=self.journal_position
        )

    async def _open(self, stack: AsyncExitStack, what: str) -> Reader:
        reader = await self._events.reader(f"scheduler-{self._name}-{what}")
        stack.push_async_callback(reader.close)
        return reader

    @property
    def journal_position(self) -> int:
        return self._journal.positions()[journal_partition(self._cell)]

    def input_positions(self) -> Positions:
        """Next offsets of objects, clusters and metrics, by topic and partition."""
        positions: Positions = {}
        for (topic, number), offset in self._inputs.positions().items():
            positions.setdefault(topic, {})[number] = offset
        return positions

    async def _fold_placements(self) -> None:
        async with AsyncExitStack() as stack:
            reader = await self._open(stack, "placements")
            partitions = await self._events.partitions(PLACEMENTS.name)
            await reader.assign(dict.fromkeys(partitions, START))
            await read_up(reader, lambda: self._follow_placements(reader))
            self.unguarded = self._written = dict(reader.positions())
        self._placements.apply(self.state)

    @property
    def misstated(self) -> set[str]:
        """Workloads of which something older than what counts was last in `fleet.placements`, as far as it was read."""
        return self._placements.misstated

    async def _follow_placements(self, reader: Reader) -> None:
        for record in await reader.read(max_records=_BATCH, timeout_s=_READ_S):
            self.record.took(record)
            try:
                self._placements.fold(record)
            except DecodeError as error:  # nobody's decision: what the journal says is published under its key
                self._refuse(record, error)

    async def follow_journal(self, timeout_s: float) -> int:
        """Folds what the journal has next; returns how many entries counted."""
        counted = 0
        for record in await self._journal.read(max_records=_BATCH, timeout_s=timeout_s):
            if is_of_another(record):
                continue
            if not is_entry(record):
                log.warning("the journal has a record that is no entry of it", position=str(record.position))
                metrics.VOID.inc()
                continue
            entry = decode_entry(record)
            if not self.fence.admits(entry):
                metrics.VOID.inc()
                continue
            counted += 1
            self.resigned = isinstance(entry, DecisionsMade) and entry.resigned
            if isinstance(entry, DecisionsMade):
                self._fold_decisions(entry, record.offset)
        metrics.EPOCH.set(self.fence.epoch)
        # Kept up to date, so that a takeover does not wait for it.
        self.state.digest()
        return counted

    def _fold_decisions(self, batch: DecisionsMade, offset: int) -> None:
        self.resume |= batch.inputs
        if REQUESTS.name in batch.inputs:
            self.resume_ahead = batch.ahead
        fold_published(self.published, batch, offset)
        if batch.decisions:
            self.record.took_offset(DECISIONS.name, self._cell, offset)
        for decision in batch.decisions:
            self.state.apply(decision)
            self.state.note_generation(decision, offset)

    async def follow_inputs(self, timeout_s: float, max_records: int = _BATCH) -> int:
        """Folds the next objects, clusters and samples; returns how many of them may matter to a decision: a heartbeat
        of a cluster that is as it was does not, and there are more of them than of all else.

        May be cancelled: what was read is folded before anything else is waited for.
        """
        records = await self._inputs.read(max_records=max_records, timeout_s=timeout_s)
        awake = self._clock.monotonic() - self._listened_at <= timeout_s + _AWAKE_S
        now_ms = self._clock.now_ms()
        clusters, matter = self.state.fleet.clusters, 0
        for record in records:
            before = clusters.version
            heard = awake and record.offset >= self._unheard.get(Partition(record.topic, record.partition), 0)
            self.record.took(record, now_ms, unheard=not heard)
            try:
                fold_input(self.state, record, now_ms if heard else min(record.timestamp_ms, now_ms))
            except DecodeError as error:
                self._refuse(record, error)
                matter += 1
                continue
            cluster = cluster_of(record)
            if cluster is not None:
                self.clusters.add(cluster)
            matter += cluster is None or clusters.version != before
        if awake:
            self._listened_at = self._clock.monotonic()
        else:
            await self._listen()
        return matter

    async def pass_over_guarded(self) -> None:
        """To be called while somebody leads, who looks at what stands in `fleet.placements` within seconds."""
        now = self._clock.monotonic()
        if now - self._written_at >= _GUARDED_S:
            self.unguarded = self._written
            self._written = dict(await self._journal.end_offsets(self._written))
            self._written_at = now

    async def _listen(self) -> None:
        """What stands in the log by now came while nobody listened."""
        self._unheard = dict(await self._inputs.end_offsets(self._inputs.positions()))
        self._listened_at = self._clock.monotonic()

    async def catch_up(self, offset: int) -> None:
        """Follows the journal until it stands behind `offset`."""
        while self.journal_position <= offset:
            await self.follow_journal(0.5)
