"""Requests that were read and not yet decided, in a lane for each namespace, served in turn.

A flood of one namespace fills its own lane and delays nobody else's requests, however many of its stand before them in
the log. A lane is bounded: what does not fit is passed over, and read once more when there is room (a `Look`). So
memory is bounded too, and nothing is lost: what has been decided is a position in each partition, and for each
namespace that waits its own, lower one. Within a partition a namespace's requests keep their order, and so does each
workload's.

A lane may be as long as there is room left for all the others: one flood gets a half of the intake, and is seldom read
twice; of n floods each gets one part of n + 1, and one part is always left for whoever comes.

Sources: J. Nagle, "On packet switches with infinite storage", RFC 970; A. K. Choudhury and E. L. Hahne, "Dynamic queue
length thresholds for shared-memory packet switches", 1998.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from shared.events.v1.decisions import ReadAhead
from shared.ports.event_log import Record

ALL_RECORDS = 32_768
ALL_BYTES = 64 * 1024 * 1024
# A look reads so many records at a time, and a lane that had room when it read takes all of them.
LOOK_RECORDS = 256


def lane_of(record: Record) -> str:
    """Whose request it is: the namespace in its key, whatever the rest of it says."""
    return (record.key or b"").partition(b"/")[0][:253].decode(errors="replace")


@dataclass(slots=True)
class _Lane:
    """`offsets` are those of its records, by partition, in their order."""

    records: deque[Record] = field(default_factory=deque)
    offsets: dict[int, deque[int]] = field(default_factory=dict)
    size: int = 0

    def put(self, record: Record) -> None:
        self.records.append(record)
        self.size += _size(record)
        self.offsets.setdefault(record.partition, deque()).append(record.offset)

    def pop(self) -> Record:
        record = self.records.popleft()
        self.size -= _size(record)
        offsets = self.offsets[record.partition]
        offsets.popleft()
        if not offsets:
            del self.offsets[record.partition]
        return record


@dataclass(slots=True)
class Look:
    """A second reading of one partition from `offset` on, for those whose lanes had no room."""

    partition: int
    offset: int
    blocked: set[str] = field(default_factory=set)


class Intake:
    """`start` is where the first reading begins, by partition; `ahead` what was decided behind that before."""

    def __init__(
        self,
        start: Mapping[int, int],
        ahead: ReadAhead | None = None,
        *,
        all_records: int = ALL_RECORDS,
        look_records: int = LOOK_RECORDS,
    ) -> None:
        self._read_to = dict(start)
        self._ahead = ahead
        self._all_records = all_records
        self._look_records = look_records
        self._lanes: dict[str, _Lane] = {}
        self._turns: deque[str] = deque()
        # By namespace and partition: from here on its requests were passed over.
        self._passed: dict[str, dict[int, int]] = {}
        self._held = self._bytes = 0

    def __len__(self) -> int:
        return self._held

    @property
    def full(self) -> bool:
        """Nothing more is to be read until something was taken."""
        return self._held >= self._all_records or self._bytes >= ALL_BYTES

    @property
    def namespaces(self) -> int:
        """How many have requests here."""
        return len(self._turns)

    @property
    def passed_over(self) -> int:
        """How many namespaces have requests that wait in the log alone."""
        return len(self._passed)

    def offer(self, record: Record) -> None:
        """The next record of its partition."""
        name, partition = lane_of(record), record.partition
        self._read_to[partition] = max(self._read_to.get(partition, 0), record.offset + 1)
        if self._decided_before(name, record):
            return
        passed = self._passed.get(name)
        if passed is not None and partition in passed:
            return
        if self._has_room(name):
            self._put(name, record)
        else:
            self._passed.setdefault(name, {})[partition] = record.offset

    def peek(self) -> Record | None:
        """The request whose turn it is; `pop` takes it away."""
        return self._lanes[self._turns[0]].records[0] if self._turns else None

    def ahead(self, count: int, size: int) -> list[Record]:
        """Those whose turns come next, in the order in which `pop` takes them: at most `count`, of about `size` bytes
        together, but one if there is any.
        """
        found: list[Record] = []
        for turn in range(count):
            before = len(found)
            for name in self._turns:
                records = self._lanes[name].records
                if turn >= len(records):
                    continue
                size -= _size(records[turn])
                if len(found) == count or (found and size < 0):
                    return found
                found.append(records[turn])
            if before == len(found):
                break
        return found

    def pop(self) -> bool:
        """What `peek` showed has been decided; its namespace goes to the end of the line. Whether it was its last."""
        name = self._turns.popleft()
        lane = self._lanes[name]
        self._bytes -= _size(lane.pop())
        self._held -= 1
        if lane.records:
            self._turns.append(name)
        else:
            del self._lanes[name]
        return not lane.records

    def decided(self) -> tuple[dict[int, int], ReadAhead | None]:
        """Up to where everything is decided, by partition; and what is, beyond that."""
        waiting: dict[str, dict[int, int]] = {name: dict(passed) for name, passed in self._passed.items()}
        for name, lane in self._lanes.items():
            firsts = waiting.setdefault(name, {})
            for partition, offsets in lane.offsets.items():
                # What was passed over comes behind what is in the lane.
                firsts[partition] = offsets[0]
        lowest = dict(self._read_to)
        for firsts in waiting.values():
            for partition, offset in firsts.items():
                lowest[partition] = min(offset, lowest[partition])
        return lowest, self._beyond(lowest, waiting)

    # The second reading

    def begin_look(self) -> Look | None:
        """Where to read once more; None if nobody with room was passed over."""
        if self.full:
            return None
        looks = [
            Look(partition, offset)
            for name, passed in self._passed.items()
            if self._has_room(name, share=2)
            for partition, offset in passed.items()
        ]
        found = min(looks, key=lambda look: look.offset, default=None)
        if found is not None:
            # Whoever waits for earlier ones, and has no room for them, may not get later ones first.
            before = (
                n for n, passed in self._passed.items() if passed.get(found.partition, found.offset) < found.offset
            )
            found.blocked.update(before)
        return found

    def offer_again(self, look: Look, record: Record) -> None:
        if record.offset >= self._read_to[look.partition]:
            # The first reading has yet to come to it, and will offer it then.
            return
        name = lane_of(record)
        passed = self._passed.get(name, {})
        if name in look.blocked or record.offset < passed.get(look.partition, record.offset + 1):
            return
        if self._has_room(name, extra=self._look_records):
            self._put(name, record)
            passed[look.partition] = record.offset + 1
        else:
            passed[look.partition] = record.offset
            look.blocked.add(name)

    def go_on(self, look: Look, position: int) -> bool:
        """The look has come to `position`; whether there is more to be found.

        To be called at once after what was offered again: what lies beyond the first reading was left to it.
        """
        partition, end = look.partition, self._read_to[look.partition]
        more = False
        for name, passed in list(self._passed.items()):
            if name in look.blocked or passed.get(partition, position + 1) > position:
                continue
            if position < end:
                # Whatever of it stood before is in its lane, so the next look begins here.
                passed[partition] = position
                more = more or self._has_room(name)
                continue
            # Everything that was read is in its lane: what comes next goes there at once.
            del passed[partition]
            if not passed:
                del self._passed[name]
        return more and not self.full

    # Inside

    def _beyond(self, lowest: Mapping[int, int], waiting: Mapping[str, dict[int, int]]) -> ReadAhead | None:
        ahead = self._ahead
        if ahead is not None and any(offset < ahead.read.get(p, 0) for p, offset in self._read_to.items()):
            # Not even read as far as a predecessor had decided: what it said still holds for what is not read.
            read = {p: max(offset, ahead.read.get(p, 0)) for p, offset in self._read_to.items()}
            return ReadAhead(read=read, waiting=_lower(waiting, ahead.waiting, self._read_to))
        self._ahead = None
        if lowest == self._read_to:
            return None
        return ReadAhead(read=dict(self._read_to), waiting={name: dict(firsts) for name, firsts in waiting.items()})

    def _decided_before(self, name: str, record: Record) -> bool:
        if self._ahead is None:
            return False
        end = self._ahead.read.get(record.partition, 0)
        return record.offset < self._ahead.waiting.get(name, {}).get(record.partition, end)

    def _has_room(self, name: str, *, share: int = 1, extra: int = 0) -> bool:
        """Whether a lane is shorter than one part in `share` of the room that is left, and `extra` records."""
        lane = self._lanes.get(name)
        if lane is None:
            return True
        records, size = self._all_records - self._held, ALL_BYTES - self._bytes
        return len(lane.records) * share < records + extra and lane.size * share < size

    def _put(self, name: str, record: Record) -> None:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
            self._turns.append(name)
        lane.put(record)
        self._bytes += _size(record)
        self._held += 1


def _lower(
    waiting: Mapping[str, dict[int, int]], before: Mapping[str, Mapping[int, int]], read_to: Mapping[int, int]
) -> dict[str, dict[int, int]]:
    """Both: who waits among what was read, and who waited before among what was not read again yet."""
    found = {name: dict(firsts) for name, firsts in waiting.items()}
    for name, partition, offset in _flat(before):
        firsts = found.setdefault(name, {})
        if offset >= read_to.get(partition, 0):
            firsts[partition] = min(offset, firsts.get(partition, offset))
        elif partition not in firsts:
            # All of it that was read again is decided; it had nothing decided beyond.
            firsts[partition] = read_to.get(partition, 0)
    return found


def _flat(positions: Mapping[str, Mapping[int, int]]) -> Iterator[tuple[str, int, int]]:
    for name, offsets in positions.items():
        for partition, offset in offsets.items():
            yield name, partition, offset


def _size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"") + 200
