"""Does to a state what the journal says that a leader did to its own, and compares what comes of it.

Exact: an epoch whose first entry has all that its leader had done before is derived from an empty state, record by
record; then whatever differs was not decided from what stands in the journal. Inexact: where the log has lost some of
that, by compaction or retention, or the journal begins in the midst of an epoch, the state is made of what the topics
still have, as of some entry. It becomes what the leader's was as newer records replace what was lost (the hash says
so), and what is equal is known to follow; but what is not may be so for what is missing, and is called unchecked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.derivation import fold_published
from services.scheduler.decision.fence import EpochFence
from services.scheduler.decision.fingerprint import config_hash
from services.scheduler.decision.state import SchedulerState
from services.scheduler.inputs import STATE_TOPICS, fold_input
from services.scheduler.journal import JournalEntry, decode_entry, is_entry
from services.scheduler.placements import PlacementsRead
from services.scheduler.recording import CALLS
from services.scheduler.replay.verdicts import STATE, Decided, key_of, paired
from services.scheduler.requests import decide_record
from shared.events.registry import DecodeError
from shared.events.topics import DECISIONS, OBJECTS, PLACEMENTS, REQUESTS
from shared.events.v1.decisions import (
    Basis,
    Decision,
    DecisionsMade,
    EpochStarted,
    InputRun,
    StateCall,
    WorkloadForgotten,
    WorkloadPlaced,
)
from shared.events.v1.placements import PlacementPublished
from shared.kernel.replay import Outcome, Verdict
from shared.ports.event_log import Record

_PARTS = ("nodes", "workloads", "clusters")


class Source(Protocol):
    """What the log still has."""

    def entries(self, last: int | None) -> AsyncIterator[tuple[int, JournalEntry]]:
        """The journal's entries and their offsets, from the first that is kept to the last, or to that offset."""

    def records(self, run: InputRun) -> AsyncIterator[Record]:
        """Those of a run that are there, in their order."""

    def placements(self) -> AsyncIterator[Record]:
        """All of `fleet.placements`."""


class Replay:
    """`exact` counts the entries whose state was derived exactly and was equal, `inexact` all others."""

    def __init__(self, source: Source, config: SchedulerConfig, max_request_bytes: int) -> None:
        self._source = source
        self._config = config
        self._max_request_bytes = max_request_bytes
        self._config_hash = config_hash(config, max_request_bytes)
        self._fence = EpochFence()
        self._void: set[int] = set()
        self._begins_at: int | None = None
        # What was decided since the last basis.
        self._decided: list[Decided] = []
        self._published: dict[str, PlacementPublished] = {}
        self._state: SchedulerState | None = None
        self._placements: PlacementsRead | None = None
        # Whether the next basis is the first of its epoch, and why what is derived is not exact.
        self._first = False
        self._why_not = ""
        self.exact = self.inexact = 0

    async def run(self, last: int | None = None) -> AsyncIterator[Verdict]:
        """A verdict for each decision that counts, in their order, up to an offset of the journal. To be read whole.

        Raises LogError, and DecodeError for a journal that cannot be read.
        """
        async for offset, entry in self._source.entries(last):
            await self._begin_at(offset, entry)
            if not self._fence.admits(entry):
                self._void.add(offset)
            elif isinstance(entry, EpochStarted):
                for verdict in self._unchecked("the leader's term ended before it said from what it was decided"):
                    yield verdict
                self._state, self._first, self._why_not = None, True, ""
            else:
                self._decided += (Decided(offset, decision) for decision in entry.decisions)
                if entry.basis is not None:
                    async for verdict in self._derive(offset, entry, entry.basis):
                        yield verdict
                fold_published(self._published, entry, offset)
        for verdict in self._unchecked("from what it was decided stands in a later entry, or in none"):
            yield verdict

    async def _begin_at(self, offset: int, entry: JournalEntry) -> None:
        """What the first entry that is kept tells of those before it."""
        if self._begins_at is not None:
            return
        self._begins_at = offset
        if isinstance(entry, DecisionsMade):
            self._fence = EpochFence(entry.epoch, entry.leader)
            self._why_not = "the journal does not have the beginning of this epoch any more"

    def _unchecked(self, why: str) -> Iterator[Verdict]:
        decided, self._decided = self._decided, []
        for item in decided:
            yield _verdict(item, Outcome.UNCHECKED, why)

    async def _derive(self, offset: int, entry: DecisionsMade, basis: Basis) -> AsyncIterator[Verdict]:
        first, self._first = self._first, False
        if basis.config != self._config_hash:
            self._state = None
            self._why_not = f"the configuration was another ({basis.config}, now {self._config_hash})"
        elif first and basis.whole:
            self._state = SchedulerState(self._config)
        elif self._state is not None and not basis.whole:
            self._state, self._why_not = None, "not all that the leader did is in the journal"
        elif first:
            self._why_not = "not all that the leader did before this epoch is in the journal"
        if self._state is None:
            self.inexact += 1
            for verdict in self._unchecked(self._why_not):
                yield verdict
            if basis.config == self._config_hash and OBJECTS.name in entry.inputs:
                await self._approximate(offset, entry)
            return
        derived: list[Decision] = []
        for step in basis.steps:
            derived += await self._step(self._state, step)
        self._apply_placements(self._state)
        for verdict in self._compare(self._state, offset, derived, basis.state):
            yield verdict

    # Steps

    async def _step(self, state: SchedulerState, step: InputRun | StateCall) -> Sequence[Decision]:
        if isinstance(step, StateCall):
            self._apply_placements(state)
            if step.method not in CALLS:
                self._lose(f"this version knows no step {step.method}")
                return ()
            done = getattr(state, step.method)(*step.arguments)
            return done if isinstance(done, list) else ()
        if step.topic != PLACEMENTS.name:
            self._apply_placements(state)
        decisions: list[Decision] = []
        found = 0
        async for record in self._source.records(step):
            counts = self._fold(state, step, record, decisions)
            found += counts
        wanted = step.end - step.start if step.records is None else step.records
        if found != wanted:
            place = f"{step.topic}/{step.partition} {step.start}..{step.end}"
            self._lose(f"the log does not have what the leader read of {place}: {found} of {wanted} records")
        return decisions

    def _fold(self, state: SchedulerState, run: InputRun, record: Record, decisions: list[Decision]) -> bool:
        """Whether it is a record that counts."""
        if run.topic == DECISIONS.name:
            return self._fold_entry(state, record)
        if run.topic == REQUESTS.name:
            decisions += decide_record(state, record, self._max_request_bytes, run.at or 0).decisions
            return True
        # What cannot be read was refused by the leader as well.
        with suppress(DecodeError):
            if run.topic == PLACEMENTS.name:
                self._placements = self._placements or PlacementsRead()
                self._placements.fold(record)
            else:
                at = run.at or 0
                fold_input(state, record, min(record.timestamp_ms, at) if run.unheard else at)
        return True

    def _fold_entry(self, state: SchedulerState, record: Record) -> bool:
        """An entry of the journal, of the leader itself or of those before it."""
        if record.offset in self._void or not is_entry(record):
            return False
        entry = decode_entry(record)
        if isinstance(entry, EpochStarted) or not entry.decisions:
            return False
        for decision in entry.decisions:
            if entry.epoch != self._fence.epoch:
                state.apply(decision)
            state.note_generation(decision, record.offset)
        return True

    def _apply_placements(self, state: SchedulerState) -> None:
        if self._placements is not None:
            self._placements.apply(state)
            self._placements = None

    def _lose(self, why: str) -> None:
        self._why_not = self._why_not or why

    # Comparing

    def _compare(
        self, state: SchedulerState, offset: int, derived: Sequence[Decision], expected: str
    ) -> Iterator[Verdict]:
        decided, self._decided = self._decided, []
        differing = Outcome.UNCHECKED if self._why_not else Outcome.DIFFERENT
        wrong: dict[str, list[Decision]] = {}
        for item, other, where in paired(decided, derived):
            if not where and item is not None:
                yield _verdict(item, Outcome.EQUAL)
                continue
            detail = f"{where} ({self._why_not})" if self._why_not else where
            if item is not None:
                wrong.setdefault(key_of(item.decision), []).append(item.decision)
                yield _verdict(item, differing, detail)
            elif other is not None:
                wrong.setdefault(key_of(other), [])
                yield Verdict(offset, key_of(other), other.kind, differing, detail)
        for key, decisions in wrong.items():
            self._put_right(state, key, decisions)
        digest = state.digest()
        same = digest == expected
        if not self._why_not and not wrong and not same:
            yield Verdict(offset, STATE, "state", Outcome.DIFFERENT, _parts(digest, expected))
        if wrong or (not self._why_not and not same):
            self._lose(f"it was different before, at {offset}")
        self.exact += same and not self._why_not
        self.inexact += not same or bool(self._why_not)

    def _put_right(self, state: SchedulerState, key: str, decisions: Sequence[Decision]) -> None:
        """Goes on with what was decided, whatever was derived."""
        record = state.find(key)
        if record is not None:
            state.apply(WorkloadForgotten(key=key, uid=record.placed.uid))
        before = self._published.get(key)
        placed = [item for item in decisions if isinstance(item, WorkloadPlaced)]
        if placed:
            state.apply(placed[-1])
        elif before is not None and before.placement is not None:
            state.apply(before.placement)
            state.note_generation(before.placement, before.generation)
        for item in decisions:
            if isinstance(item, WorkloadForgotten):
                state.apply(item)

    # Without the beginning

    async def _approximate(self, offset: int, entry: DecisionsMade) -> None:
        """A state of what the topics still have, as of this entry."""
        state = SchedulerState(self._config)
        known = await self._placed_before()
        fold_published(known, entry, offset)
        for _, item in sorted(known.items()):
            if item.placement is not None:
                state.apply(item.placement)
                state.note_generation(item.placement, item.generation)
        for topic in STATE_TOPICS:
            for partition, end in sorted(entry.inputs.get(topic, {}).items()):
                if not end:
                    continue
                async for record in self._source.records(InputRun(topic=topic, partition=partition, start=0, end=end)):
                    with suppress(DecodeError):
                        fold_input(state, record, record.timestamp_ms)
        self._state = state

    async def _placed_before(self) -> dict[str, PlacementPublished]:
        """The workloads as of the last entry: those that the journal has, and of the others what was published."""
        before = PlacementsRead()
        async for record in self._source.placements():
            with suppress(DecodeError):
                before.fold(record)
        begin = self._begins_at or 0
        older = {key: item for key, item in before.published.items() if item.generation < begin}
        return older | self._published


def _verdict(item: Decided, outcome: Outcome, detail: str = "") -> Verdict:
    return Verdict(item.offset, key_of(item.decision), item.decision.kind, outcome, detail)


def _parts(one: str, other: str) -> str:
    """Which parts of two hashes of a state differ."""
    pairs = zip(_PARTS, one.split("-"), other.split("-"), strict=True)
    return f"the hash of {', '.join(name for name, left, right in pairs if left != right)}"
