"""From records of a command topic to stimuli. Nothing that a record may contain raises."""

from __future__ import annotations

import orjson

from services.executor.decision.stimuli import CommandMalformed, CommandSeen, CommandTombstoned
from shared.events.envelope import EPOCH, SEQ, Envelope, EnvelopeError, number_of
from shared.events.registry import DecodeError, decode
from shared.events.v1.commands import CommandIssued
from shared.kernel.machine import Stimulus
from shared.ports.event_log import Record
from shared.runtime.ids import new_id

_MAX_SUBJECT = 512


class NoSubjectError(ValueError):
    """The record's key names no subject, so there is nobody to report to."""


def read_command(record: Record, now_ms: int) -> Stimulus:
    """What a record says. Raises NoSubjectError and nothing else."""
    subject = _subject(record.key)
    stimulus_id = new_id()
    if record.value is None:
        epoch, generation = number_of(record.headers, EPOCH), number_of(record.headers, SEQ)
        return CommandTombstoned(id=stimulus_id, at_ms=now_ms, subject=subject, epoch=epoch, generation=generation)
    traceparent = _traceparent(record)
    try:
        command = decode(CommandIssued, record.value)
    except DecodeError as error:
        said = _salvage(record.value)
        return CommandMalformed(
            id=stimulus_id,
            at_ms=now_ms,
            subject=subject,
            message=str(error),
            epoch=_number(said.get("epoch")),
            generation=_number(said.get("generation")),
            digest=str(said.get("digest", ""))[:128],
            traceparent=traceparent,
        )
    return CommandSeen(id=stimulus_id, at_ms=now_ms, subject=subject, command=command, traceparent=traceparent)


def _subject(key: bytes | None) -> str:
    if not key or len(key) > _MAX_SUBJECT:
        raise NoSubjectError("the record's key is empty or too long")
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise NoSubjectError("the record's key is not UTF-8") from error


def _traceparent(record: Record) -> str:
    """The trace that the command belongs to; a header that cannot be read is no reason not to obey."""
    try:
        return Envelope.from_headers(record.headers, position="", timestamp_ms=record.timestamp_ms).traceparent
    except EnvelopeError:
        return ""


def _salvage(value: bytes) -> dict[str, object]:
    """What a malformed command says of itself, if it is at least JSON."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else 0
