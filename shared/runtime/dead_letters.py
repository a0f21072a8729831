"""A refused record goes to its topic's dead-letter topic: its bytes as they came, the reason in the headers."""

from __future__ import annotations

from collections.abc import Sequence

from shared.events.envelope import (
    DEAD_LETTER_FIELD,
    DEAD_LETTER_MESSAGE,
    DEAD_LETTER_REASON,
    DEAD_LETTER_SOURCE,
)
from shared.events.v1.workloads import FieldError
from shared.ports.event_log import NewRecord, Record

_MAX_HEADER = 2000


def dead_letter(record: Record, errors: Sequence[FieldError]) -> NewRecord:
    """The dead letter of one record; the first error gives reason and field, the message holds all of them."""
    message = "; ".join(f"{error.field}: {error.message}" if error.field else error.message for error in errors)
    reasons = (
        (DEAD_LETTER_REASON, errors[0].reason.encode()),
        (DEAD_LETTER_FIELD, errors[0].field.encode()[:_MAX_HEADER]),
        (DEAD_LETTER_MESSAGE, message.encode()[:_MAX_HEADER]),
        (DEAD_LETTER_SOURCE, str(record.position).encode()),
    )
    return NewRecord(f"{record.topic}.dlq", record.key, record.value, (*record.headers, *reasons))
