"""What this service holds of `fleet.objects`, held against what the watchers say that it should be.

A watcher's sync marker has the digest of all that a reader holds who has read up to it. If ours is another, the
cluster's objects are read anew from the start of the topic, up to where we stand: either that shows something else than
we hold, and what we hold is put right; or it shows the same, and it is the log that differs. Then `fleet.discrepancies`
says so, and the cluster's watcher publishes what is not there.

A marker tells only those who have read all records before it, so only markers count that were not yet there when this
reading began: compaction may have taken some away from before older ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.status import metrics
from services.status.decision.messages import StatusStimulus, ViewCompared
from services.status.intake import Intake
from shared.events.envelope import Envelope
from shared.events.registry import DecodeError, decode
from shared.events.states import state_of
from shared.events.topics import DISCREPANCIES, DISCREPANCY_FOUND, OBJECTS
from shared.events.v1.discrepancies import DiscrepancyFound
from shared.events.v1.objects import SyncMarked
from shared.model.digests import Difference, SetDigest, difference, digest_of
from shared.model.identities import ObjectKey, Resource
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import START, EventLog, NewRecord, Partition, Record
from shared.runtime.ids import new_id

log = get_logger(__name__)

_MARKER: Final = b"-/sync/"
_SHOWN: Final = 8
_READ_S: Final = 1.0
_NOTHING: Final[Mapping[str, str]] = {}

# States of objects by their names, by resource as it stands in keys, such as `core/v1/pods`.
Held = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A marker says something else than we hold."""

    partition: Partition
    marker: SyncMarked
    held: SetDigest


@dataclass(slots=True)
class Reading:
    """A cluster's objects as they stand in the log: what is held of them, and the latest stimulus of each key."""

    held: Held = field(default_factory=lambda: defaultdict(dict))
    stimuli: dict[bytes, StatusStimulus] = field(default_factory=dict)


class Holdings:
    """`take` every record of `fleet.objects` as it is folded, then `settle` what they said of one another."""

    def __init__(self, events: EventLog, clock: Clock, patience_s: float) -> None:
        self._events = events
        self._clock = clock
        self._patience_s = patience_s
        self._held: dict[str, Held] = defaultdict(lambda: defaultdict(dict))
        self._doubts: dict[tuple[str, str], Doubt] = {}
        self._compared: list[ViewCompared] = []
        self._doubted_at: dict[tuple[str, str], float] = {}
        # Where each partition ended when the reading began; empty until all of that was read.
        self.trusted: Mapping[Partition, int] = {}

    def take(self, record: Record) -> None:
        cluster, _, rest = (record.key or b"").partition(b"/")
        if rest.startswith(_MARKER):
            self._take_marker(record)
        else:
            _hold(self._held[_text(cluster)], rest, record.value)

    def _take_marker(self, record: Record) -> None:
        partition = Partition(record.topic, record.partition)
        if record.value is None or record.offset < self.trusted.get(partition, record.offset + 1):
            return
        try:
            marker = decode(SyncMarked, record.value)
            path = _path(Resource.parse(marker.resource))
        except (DecodeError, ValueError) as error:
            log.warning("marker not understood", position=str(record.position), error=str(error))
            return
        if not marker.digest:
            return
        found = digest_of(self._held[marker.cluster].get(path, _NOTHING))
        about = (marker.cluster, marker.resource)
        self._doubts.pop(about, None)
        if (found.count, found.text) == (marker.objects, marker.digest):
            self._doubted_at.pop(about, None)
            self._conclude(marker, equal=True)
        else:
            self._doubts[about] = Doubt(partition, marker, found)

    def _conclude(self, marker: SyncMarked, *, equal: bool, objects: int = 0) -> None:
        metrics.COMPARISONS.labels("equal" if equal else "different").inc()
        self._compared.append(
            ViewCompared(
                id=new_id(),
                at_ms=self._clock.now_ms(),
                cluster=marker.cluster,
                resource=marker.resource,
                equal=equal,
                expected=marker.objects or 0,
                found=objects,
            )
        )

    async def settle(self, positions: Mapping[Partition, int]) -> tuple[Sequence[StatusStimulus], Sequence[NewRecord]]:
        """What follows for the state and for the log, when all before `positions` was taken. Raises LogError."""
        stimuli: list[StatusStimulus] = []
        letters: list[NewRecord] = []
        for about, doubt in self._doubts.items():
            self._conclude(doubt.marker, equal=False, objects=doubt.held.count)
            now = self._clock.monotonic()
            if now - self._doubted_at.get(about, -self._patience_s) < self._patience_s:
                # The watcher was told a moment ago, or cannot put it right: reading again and again would help nobody.
                continue
            self._doubted_at[about] = now
            repaired = await self._reread(doubt, positions)
            stimuli += repaired
            if not repaired:
                letters.append(self._letter(doubt))
        self._doubts.clear()
        stimuli += self._compared
        self._compared = []
        return stimuli, letters

    async def _reread(self, doubt: Doubt, positions: Mapping[Partition, int]) -> list[StatusStimulus]:
        """What puts the state right, where it is not as the log has it."""
        cluster = doubt.marker.cluster
        reading = await self._read(doubt.partition, cluster, positions[doubt.partition])
        before, self._held[cluster] = self._held[cluster], reading.held
        wrong = _differences(before, reading.held)
        if not wrong:
            log.warning(
                "the log is not as its watcher says",
                cluster=cluster,
                resource=doubt.marker.resource,
                expected=doubt.marker.objects,
                found=doubt.held.count,
            )
            return []
        log.error("what was held is not what is in the log, and is put right", cluster=cluster, **_shown(wrong))
        metrics.REPAIRED.labels(cluster).inc(sum(len(each) for each in wrong.values()))
        gone = [
            _gone(f"{cluster}/{path}/{name}".encode(), positions[doubt.partition], doubt.partition)
            for path, each in wrong.items()
            for name in each.extra
        ]
        intake, now_ms = Intake(), self._clock.now_ms()
        taken_back = [stimulus for record in gone if (stimulus := intake.stimulus(record, now_ms)) is not None]
        return [*taken_back, *reading.stimuli.values()]

    async def _read(self, partition: Partition, cluster: str, end: int) -> Reading:
        reading, intake = Reading(), Intake()
        prefix = f"{cluster}/".encode()
        reader = await self._events.reader("status-reread")
        try:
            await reader.assign({partition: START})
            while reader.positions()[partition] < end:
                for record in await reader.read(timeout_s=_READ_S):
                    if record.offset < end and (record.key or b"").startswith(prefix):
                        _note(reading, intake, record, self._clock.now_ms())
        finally:
            await reader.close()
        return reading

    def _letter(self, doubt: Doubt) -> NewRecord:
        marker = doubt.marker
        key = f"{marker.cluster}/{marker.resource}"
        found = DiscrepancyFound(
            cluster=marker.cluster,
            resource=marker.resource,
            epoch=marker.epoch,
            found_at=self._clock.now_ms(),
            expected_objects=marker.objects or 0,
            expected_digest=marker.digest,
            found_objects=doubt.held.count,
            found_digest=doubt.held.text,
        )
        envelope = Envelope(
            id=new_id(),
            source="flotilla/status",
            type=DISCREPANCY_FOUND.ce_type,
            time_ms=found.found_at,
            subject=key,
        )
        return NewRecord(DISCREPANCIES.name, key.encode(), found.to_json(), envelope.to_headers())


def _note(reading: Reading, intake: Intake, record: Record, now_ms: int) -> None:
    key = record.key or b""
    rest = key.partition(b"/")[2]
    if rest.startswith(b"-/"):
        return
    _hold(reading.held, rest, record.value)
    try:
        stimulus = intake.stimulus(record, now_ms)
    except DecodeError:
        # It was refused when it was first read; what stood before it is not known any more.
        reading.stimuli.pop(key, None)
        return
    if stimulus is not None:
        reading.stimuli[key] = stimulus


def _hold(held: Held, rest: bytes, value: bytes | None) -> None:
    """Notes an object's state; `rest` is its key without the cluster."""
    parts = rest.split(b"/", 3)
    if len(parts) != 4 or parts[0] == b"-":  # noqa: PLR2004 - group, version, resource, and the object's name
        return
    path, name = _text(b"/".join(parts[:3])), _text(parts[3])
    if value is None:
        held[path].pop(name, None)
    else:
        held[path][name] = state_of(value)


def _differences(before: Held, after: Held) -> dict[str, Difference]:
    pairs = ((path, before.get(path, _NOTHING), after.get(path, _NOTHING)) for path in {*before, *after})
    return {path: difference(one, other) for path, one, other in pairs if one != other}


def _shown(wrong: Mapping[str, Difference]) -> Mapping[str, object]:
    names: Iterator[str] = (f"{path}/{name}" for path, each in sorted(wrong.items()) for name in each.names)
    return {"objects": [name for name, _ in zip(names, range(_SHOWN), strict=False)]}


def _gone(key: bytes, offset: int, partition: Partition) -> Record:
    return Record(OBJECTS.name, partition.partition, offset, 0, key, None)


def _path(resource: Resource) -> str:
    return str(ObjectKey("", resource, "", "")).removeprefix("/").removesuffix("/-/")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
