"""From records to stimuli: which of them matter, and what they say.

Most records of `fleet.objects` are about things that no status depends on; their key alone says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from services.status.decision import values
from services.status.decision.facts import NodesFacts, ScalingFacts
from services.status.decision.messages import (
    HeartbeatSeen,
    InventorySeen,
    NodesAwaitedSeen,
    OwnedObjectSeen,
    PhaseRestored,
    PlacementSeen,
    PodSeen,
    ResultSeen,
    ScalingSeen,
    StatusRestored,
    StatusStimulus,
)
from services.status.decoding import MAX_TEXT, decode_message
from services.status.observed import owned_facts, pod_facts
from services.status.placed import placement_of
from shared.events.envelope import SEQ, number_of
from shared.events.registry import DecodeError, decode
from shared.events.topics import EVENTS, INVENTORIES, OBJECTS, PLACEMENTS, RESULTS, SCALING, STATUS, WAITING
from shared.events.v1.inventories import InventoryReported
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.results import CommandReported
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.status import WorkloadPhaseChanged, WorkloadStatus
from shared.events.v1.vertical import AS_RECOMMENDED, PodSetRequests
from shared.events.v1.waiting import NodesAwaited
from shared.events.v1.workloads import FieldError
from shared.model.identities import WorkloadKey, heartbeat_cluster
from shared.ports.event_log import Record

_OWNED_KINDS: Final = {
    b"apps/v1/deployments": "Deployment",
    b"apps/v1/statefulsets": "StatefulSet",
    b"apps/v1/daemonsets": "DaemonSet",
    b"batch/v1/jobs": "Job",
}
_PODS: Final = b"core/v1/pods"
_WORKLOAD_PREFIX: Final = "workload/"


class Intake:
    """Decodes one record at a time. `live` is told of heartbeats by the clock, else by their record's time.

    `told` says of a record whether what follows from it was told before a restart.
    """

    def __init__(self, told: Callable[[Record], bool] = lambda _: False) -> None:
        self._readers: Mapping[str, Callable[[Record, int], StatusStimulus | None]] = {
            PLACEMENTS.name: self._placement,
            RESULTS.name: _result,
            OBJECTS.name: self._object,
            INVENTORIES.name: _inventory,
            SCALING.name: _scaling,
            WAITING.name: _waiting,
            STATUS.name: _status,
            EVENTS.name: _event,
        }
        self._told = told
        self.live = False

    def stimulus(self, record: Record, now_ms: int) -> StatusStimulus | None:
        """What a record says; None if that does not matter here. Raises DecodeError."""
        return self._readers[record.topic](record, now_ms)

    def _object(self, record: Record, now_ms: int) -> StatusStimulus | None:
        cluster, _, rest = (record.key or b"").partition(b"/")
        what = b"/".join(rest.split(b"/", 3)[:3])
        at_ms = min(record.timestamp_ms, now_ms)
        if what == _PODS:
            pod = pod_facts(record.value) if record.value is not None else None
            return PodSeen(id=_id(record), at_ms=at_ms, key=_key(record), cluster=_text(cluster), pod=pod)
        if kind := _OWNED_KINDS.get(what):
            owned = owned_facts(kind, record.value) if record.value is not None else None
            return OwnedObjectSeen(id=_id(record), at_ms=at_ms, key=_key(record), cluster=_text(cluster), owned=owned)
        if heartbeat_cluster(record.key or b"") is not None:
            observed = decode(ClusterObserved, record.value) if record.value is not None else None
            heard = now_ms if self.live else at_ms
            return HeartbeatSeen(id=_id(record), at_ms=heard, cluster=_text(cluster), observed=observed)
        return None

    def _placement(self, record: Record, now_ms: int) -> StatusStimulus:
        return PlacementSeen(
            id=_id(record),
            at_ms=min(record.timestamp_ms, now_ms),
            placement=placement_of(record.value) if record.value is not None else None,
            key=_workload_key(record),
            restored=self._told(record),
            ended_at=number_of(record.headers, SEQ) if record.value is None else None,
        )


def _result(record: Record, now_ms: int) -> StatusStimulus | None:
    report = decode(CommandReported, record.value)
    if not report.subject.startswith(_WORKLOAD_PREFIX):
        return None
    key = _parsed(report.subject.removeprefix(_WORKLOAD_PREFIX), "subject")
    return ResultSeen(
        id=_id(record),
        at_ms=min(record.timestamp_ms, now_ms),
        key=key,
        report=report,
        partition=record.partition,
        offset=record.offset,
    )


def _inventory(record: Record, now_ms: int) -> StatusStimulus:
    reported = decode(InventoryReported, record.value) if record.value is not None else None
    return InventorySeen(
        id=_id(record), at_ms=min(record.timestamp_ms, now_ms), cluster=_key(record), inventory=reported
    )


def _scaling(record: Record, now_ms: int) -> StatusStimulus:
    said = decode(WorkloadScaled, record.value) if record.value is not None else None
    facts = None
    if said is not None:
        conditions = tuple(
            (item.type.value, item.status, item.reason, item.message[:MAX_TEXT])
            for pod_set in said.pod_sets[:1]
            for item in pod_set.conditions
        )
        facts = ScalingFacts(said.uid, (*conditions, *_requests(said.requests)))
    return ScalingSeen(id=_id(record), at_ms=min(record.timestamp_ms, now_ms), key=_workload_key(record), scaling=facts)


def _requests(said: Sequence[PodSetRequests]) -> Iterator[tuple[str, bool, str, str]]:
    """Whether containers request what is recommended; where some do not, why those do not."""
    if said:
        item = next((item for item in said if item.state != AS_RECOMMENDED), said[0])
        message = f"pod set {item.name}: {item.message}" if item.message else ""
        yield "RequestsApplied", item.state == AS_RECOMMENDED, item.state, message[:MAX_TEXT]


def _waiting(record: Record, now_ms: int) -> StatusStimulus:
    said = decode(NodesAwaited, record.value) if record.value is not None else None
    nodes = NodesFacts(said.uid, said.coming, said.reason, said.message[:MAX_TEXT]) if said is not None else None
    return NodesAwaitedSeen(
        id=_id(record), at_ms=min(record.timestamp_ms, now_ms), key=_workload_key(record), nodes=nodes
    )


def _status(record: Record, now_ms: int) -> StatusStimulus:
    status = decode_message(values.DECODER, WorkloadStatus, record.value) if record.value is not None else None
    key = _workload_key(record)
    return StatusRestored(id=_id(record), at_ms=min(record.timestamp_ms, now_ms), key=key, status=status)


def _event(record: Record, now_ms: int) -> StatusStimulus:
    event = decode(WorkloadPhaseChanged, record.value)
    key = _workload_key(record)
    return PhaseRestored(id=_id(record), at_ms=min(record.timestamp_ms, now_ms), key=key, event=event)


def _id(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _workload_key(record: Record) -> str:
    return _parsed(_key(record), "key")


def _key(record: Record) -> str:
    return _text(record.key or b"")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError((FieldError(field="key", reason="Malformed", message="is not UTF-8"),)) from error


def _parsed(text: str, name: str) -> str:
    try:
        WorkloadKey.parse(text)
    except ValueError as error:
        raise DecodeError((FieldError(field=name, reason="Invalid", message=str(error)),)) from error
    return text
