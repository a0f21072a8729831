"""CloudEvents 1.0 in Kafka's binary content mode: attributes are headers, the value is the bare body.

Source: CloudEvents, Kafka protocol binding, section 3.2. On top of its attributes: `traceparent` (W3C
trace context) and, where they apply, `fleet_epoch`, `fleet_seq` and `fleet_signature`.

A person may publish a request without any of these headers: `Envelope.from_headers` then takes the id and the time
from the record itself, which are as stable as the log is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]

JSON_CONTENT = b"application/json"
SPEC_VERSION = b"1.0"
# Headers with the place of a derived record in its journal: the only ones that tell how old a tombstone is.
EPOCH = "fleet_epoch"
SEQ = "fleet_seq"
# Of 64 bits.
_MOST_DIGITS = 19
# Headers of a dead letter, beside those that the refused record had.
DEAD_LETTER_REASON = "dlq_reason"
DEAD_LETTER_FIELD = "dlq_field"
DEAD_LETTER_MESSAGE = "dlq_message"
DEAD_LETTER_SOURCE = "dlq_source"


class EnvelopeError(ValueError):
    """A header is there, but it is not what CloudEvents allows; the message names it."""


class Envelope(NamedTuple):
    """The attributes of one event. `time_ms` is Unix time in milliseconds."""

    id: str
    source: str
    type: str
    time_ms: int
    subject: str = ""
    traceparent: str = ""
    epoch: int | None = None
    seq: int | None = None
    signature: str = ""

    def to_headers(self) -> Headers:
        headers = [
            ("ce_specversion", SPEC_VERSION),
            ("ce_id", self.id.encode()),
            ("ce_source", self.source.encode()),
            ("ce_type", self.type.encode()),
            ("ce_time", format_time(self.time_ms).encode()),
            ("content-type", JSON_CONTENT),
        ]
        if self.subject:
            headers.append(("ce_subject", self.subject.encode()))
        if self.traceparent:
            headers.append(("traceparent", self.traceparent.encode()))
        if self.epoch is not None:
            headers.append((EPOCH, str(self.epoch).encode()))
        if self.seq is not None:
            headers.append((SEQ, str(self.seq).encode()))
        if self.signature:
            headers.append(("fleet_signature", self.signature.encode()))
        return tuple(headers)

    @classmethod
    def from_headers(
        cls, headers: Iterable[tuple[str, bytes]], *, position: str, timestamp_ms: int, default_type: str = ""
    ) -> Envelope:
        """Reads the attributes; what is absent comes from the record's position and timestamp.

        Raises:
            EnvelopeError: a header is not UTF-8, not a time, or not a number.
        """
        texts: dict[str, str] = {}
        for name, raw in headers:
            try:
                texts[name] = raw.decode()
            except UnicodeDecodeError as error:
                raise EnvelopeError(f"header {name[:80]!r} is not UTF-8") from error
        time = texts.get("ce_time")
        return cls(
            id=texts.get("ce_id") or position,
            source=texts.get("ce_source", ""),
            type=texts.get("ce_type") or default_type,
            time_ms=parse_time(time) if time else timestamp_ms,
            subject=texts.get("ce_subject", ""),
            traceparent=texts.get("traceparent", ""),
            epoch=_number(texts, EPOCH),
            seq=_number(texts, SEQ),
            signature=texts.get("fleet_signature", ""),
        )


def number_of(headers: Iterable[tuple[str, bytes]], name: str) -> int | None:
    """The number in one header, without a look at the others; None if it is absent or no whole number."""
    raw = next((value for key, value in headers if key == name), None)
    return int(raw) if raw is not None and _is_number(raw) else None


def _is_number(raw: bytes) -> bool:
    return raw.isdigit() and len(raw) <= _MOST_DIGITS


def format_time(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    seconds, millis = divmod(time_ms, 1000)
    return f"{_format_second(seconds)}.{millis:03d}Z"


@lru_cache(maxsize=16)
def _format_second(seconds: int) -> str:
    """Kept, since many records are of one second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_time(text: str) -> int:
    """RFC 3339 to Unix milliseconds. Raises EnvelopeError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise EnvelopeError(f"ce_time {text[:80]!r} is not an RFC 3339 time") from error
    if moment.tzinfo is None:
        raise EnvelopeError(f"ce_time {text[:80]!r} has no offset from UTC")
    return round(moment.timestamp() * 1000)


def _number(texts: dict[str, str], name: str) -> int | None:
    text = texts.get(name)
    if text is None:
        return None
    if not _is_number(text.encode()):
        raise EnvelopeError(f"{name} {text[:80]!r} is not a whole number")
    return int(text)
