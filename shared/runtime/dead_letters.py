"""A refused record goes to its topic's dead-letter topic: its bytes as they came, the reason in the headers."""

from __future__ import annotations

from collections.abc import Sequence

from shared.events.envelope import (
    DEAD_LETTER_FIELD,
    DEAD_LETTER_MESSAGE,
    DEAD_LETTER_REASON,
    DEAD_LETTER_SOURCE,
)
from shared.events.topics import ALL_TOPICS
from shared.events.v1.workloads import FieldError
from shared.observability.metrics import Counter
from shared.ports.event_log import NewRecord, Record

_MAX_HEADER = 2000


def begin_at_zero(counter: Counter, service: str) -> None:
    """Gives a counter of dead letters a series for every topic of which this service may refuse records.

    A series that begins with its first dead letter has no earlier value, so no rate would show that letter.
    """
    for topic in ALL_TOPICS:
        if topic.dead_letters and service in topic.read_by:
            counter.labels(topic.name)


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
