"""From a record of `fleet.requests` to a request, or to the reasons for which it is refused; and to what is decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.scheduler.decision.deciding.requests import Answer
from services.scheduler.decision.state import SchedulerState
from shared.events.envelope import Envelope, EnvelopeError
from shared.events.registry import DecodeError, decode
from shared.events.topics import REQUESTED
from shared.events.v1.decisions import Decision, RequestRef
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.workloads import FieldError
from shared.model.built import built
from shared.model.identities import WorkloadKey
from shared.model.names import dns_label_error
from shared.ports.event_log import Record

_MAX_TEXT = 256
_ref = built(RequestRef, ("id", "published_at", "position", "traceparent"))


class Accepted(NamedTuple):
    request: WorkloadRequested
    ref: RequestRef


class Refused(NamedTuple):
    """`key` is the workload's where the record's key names one, else one made from its position."""

    key: str
    ref: RequestRef
    errors: tuple[FieldError, ...]


class Answered(NamedTuple):
    """`unread` are the reasons why nobody could decide; `defect` is what went wrong where that was our own fault."""

    key: str
    ref: RequestRef
    decisions: list[Decision]
    unread: tuple[FieldError, ...] = ()
    defect: Exception | None = None


def decide_record(state: SchedulerState, record: Record, max_bytes: int, now_ms: int) -> Answered:
    """What a record leads to, whatever is in it. A defect must not stop the requests behind this one."""
    read = read_request(record, max_bytes)
    if isinstance(read, Refused):
        return _refused(state, read)
    try:
        return _answered(state, read, state.decide_request(read.request, read.ref, now_ms))
    except Exception as error:  # noqa: BLE001 - logged, refused and kept, by whoever asked
        return _answered(state, read, error)


def decide_records(
    state: SchedulerState, records: Sequence[Record], max_bytes: int, now_ms: int
) -> Iterator[list[Answered]]:
    """What `decide_record` does for one after the other. Yields what the next few led to, which is decided; of those
    behind them nothing is yet.
    """
    asked: list[Accepted] = []
    for read in [read_request(record, max_bytes) for record in records]:
        if isinstance(read, Accepted):
            asked.append(read)
            continue
        yield from _decide(state, asked, now_ms)
        asked.clear()
        yield [_refused(state, read)]
    yield from _decide(state, asked, now_ms)


def _decide(state: SchedulerState, asked: Sequence[Accepted], now_ms: int) -> Iterator[list[Answered]]:
    waiting = iter(asked)
    for answers in state.decide_requests([(read.request, read.ref) for read in asked], now_ms):
        yield [_answered(state, next(waiting), answer) for answer in answers]


def _answered(state: SchedulerState, read: Accepted, answer: Answer) -> Answered:
    key = read.request.root.workload.key_text
    if isinstance(answer, list):
        return Answered(key, read.ref, answer)
    message = f"the scheduler failed on this request: {type(answer).__name__}"
    errors = (FieldError(field="", reason="InternalError", message=message),)
    return _refused(state, Refused(key, read.ref, errors), answer)


def _refused(state: SchedulerState, read: Refused, defect: Exception | None = None) -> Answered:
    return Answered(read.key, read.ref, state.reject(read.key, read.ref, read.errors), read.errors, defect)


def read_request(record: Record, max_bytes: int) -> Accepted | Refused:
    """Never raises for anything that a record can hold."""
    position = f"{record.topic}/{record.partition}/{record.offset}"
    try:
        envelope = Envelope.from_headers(
            record.headers, position=position, timestamp_ms=record.timestamp_ms, default_type=REQUESTED.ce_type
        )
    except EnvelopeError as error:
        ref = RequestRef(id=position, published_at=record.timestamp_ms, position=position)
        return Refused(_key_for(record), ref, (FieldError(field="headers", reason="Invalid", message=str(error)),))
    ref = _ref(
        {
            "id": envelope.id[:_MAX_TEXT],
            "published_at": envelope.time_ms,
            "position": position,
            "traceparent": envelope.traceparent[:_MAX_TEXT],
        }
    )
    errors = _check_outside(record, envelope, max_bytes)
    if errors:
        return Refused(_key_for(record), ref, errors)
    try:
        request = decode(WorkloadRequested, record.value)
    except DecodeError as error:
        return Refused(_key_for(record), ref, error.errors)
    if record.key != request.root.workload.key_text.encode():
        given = "absent" if record.key is None else repr(record.key[:_MAX_TEXT].decode(errors="replace"))
        message = (
            f"the record's key must be {request.key}, so that requests for one workload stay in order; it is {given}"
        )
        return Refused(str(request.key), ref, (FieldError(field="key", reason="Invalid", message=message),))
    return Accepted(request, ref)


def _check_outside(record: Record, envelope: Envelope, max_bytes: int) -> tuple[FieldError, ...]:
    if envelope.type != REQUESTED.ce_type:
        message = f"want {REQUESTED.ce_type}, not {envelope.type[:_MAX_TEXT]!r}"
        return (FieldError(field="headers.ce_type", reason="Invalid", message=message),)
    if record.value is not None and len(record.value) > max_bytes:
        message = f"the request has {len(record.value)} bytes; the limit is {max_bytes}"
        return (FieldError(field="", reason="TooLarge", message=message),)
    return ()


def _key_for(record: Record) -> str:
    """The workload that the record's key names, if it names one."""
    try:
        key = WorkloadKey.parse((record.key or b"").decode())
    except ValueError:
        return f"requests/{record.partition}-{record.offset}"
    if dns_label_error(key.namespace) or dns_label_error(key.name):
        return f"requests/{record.partition}-{record.offset}"
    return str(key)
