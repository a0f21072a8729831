"""Records that were refused, on their way to the dead-letter topics."""

from __future__ import annotations

from services.scheduler import metrics
from shared.events.registry import DecodeError
from shared.events.v1.workloads import FieldError
from shared.observability.logs import get_logger
from shared.ports.event_log import Publisher, Record
from shared.runtime.dead_letters import dead_letter

log = get_logger(__name__)


class Refusals:
    """Bounded by what one round of the leader reads. A standby's refusals are the leader's to deliver: `drop` them."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Record, tuple[FieldError, ...]]] = []

    def add(self, record: Record, error: DecodeError) -> None:
        self._waiting.append((record, error.errors))

    def drop(self) -> None:
        self._waiting.clear()

    async def deliver(self, publisher: Publisher) -> None:
        """Returns when all of them are acknowledged. Raises LogError."""
        if not self._waiting:
            return
        for record, errors in self._waiting:
            log.warning("record refused", position=str(record.position), field=errors[0].field, reason=errors[0].reason)
            await publisher.send(dead_letter(record, errors))
            metrics.DEAD_LETTERS.labels(topic=record.topic).inc()
        await publisher.flush()
        self._waiting.clear()
