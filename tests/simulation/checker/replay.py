"""Every decision follows from what the journal says that its leader had seen: derived once more, it is the same.

The history is read as it was, with what retention has dropped since, and without what the log cleaner had taken before
a leader read it. Unlike the other rules this one runs the scheduler's own code: what it finds is a decision that
depends on something that was not recorded, whatever that code is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from services.scheduler.journal import JournalEntry, decode_entry, is_entry
from services.scheduler.replay.engine import Replay, Source
from shared.events.topics import DECISIONS, PLACEMENTS
from shared.events.v1.decisions import InputRun
from shared.kernel.replay import Outcome, Verdict
from shared.ports.event_log import Partition, Record
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.history import History

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replayed:
    verdicts: tuple[Verdict, ...]
    exact: int
    inexact: int


class HistorySource:
    """`Source` over a history."""

    def __init__(self, history: History) -> None:
        self._cleaned = history.cleaned
        self._records: dict[Partition, list[Record]] = defaultdict(list)
        for item in history.appends:
            partition = Partition(item.topic, item.partition)
            record = Record(*partition, item.offset, item.at_ms, item.key, item.value, item.headers)
            self._records[partition].append(record)

    async def entries(self, last: int | None) -> AsyncIterator[tuple[int, JournalEntry]]:
        for record in self._records[Partition(DECISIONS.name, 0)]:
            if (last is None or record.offset <= last) and is_entry(record):
                yield record.offset, decode_entry(record)

    async def placements(self) -> AsyncIterator[Record]:
        for partition, records in sorted(self._records.items()):
            if partition.topic == PLACEMENTS.name:
                for record in records:
                    yield record

    async def records(self, run: InputRun) -> AsyncIterator[Record]:
        """Those that were there when the leader read: as many as it says that it found."""
        partition = Partition(run.topic, run.partition)
        records = self._records[partition]
        begin, end = (bisect_left(records, offset, key=_offset) for offset in (run.start, run.end))
        found = records[begin:end]
        if run.records is not None and len(found) != run.records and run.topic != DECISIONS.name:
            last = max((self._cleaned.get(item.position, 0) for item in found), default=0)
            moments = sorted({self._cleaned[item.position] for item in found if item.position in self._cleaned})
            for moment in (*moments, last + 1):
                there = [item for item in found if self._cleaned.get(item.position, moment) >= moment]
                if len(there) == run.records:
                    found = there
                    break
        for record in found:
            yield record


def check(evidence: Evidence) -> Iterator[Violation]:
    if evidence.replay is None:
        return
    try:
        done = replayed(evidence.history, evidence.replay)
    except Exception as error:  # noqa: BLE001 - what a defect did to a history must not keep the other rules from judging
        yield Violation("replay", "the history", f"cannot be derived: {error!r}"[:300])
        return
    for verdict in done.verdicts:
        if verdict.outcome is Outcome.DIFFERENT:
            yield Violation("replay", verdict.key, f"{verdict.kind} at {verdict.offset}: {verdict.detail}")


def replayed(history: History, make: Callable[[Source], Replay]) -> Replayed:
    replay = make(HistorySource(history))

    async def run() -> tuple[Verdict, ...]:
        return tuple([verdict async for verdict in replay.run()])

    return Replayed(_done(run()), replay.exact, replay.inexact)


def _offset(record: Record) -> int:
    return record.offset


def _done(work: Coroutine[Any, Any, T]) -> T:
    """The result of what never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise RuntimeError("a history is at hand: nothing waits for it")
