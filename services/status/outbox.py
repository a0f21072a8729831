"""From instructions to records, in the order that makes a restart exact.

Phase changes are acknowledged before the statuses that embody them are sent: a status in the log means that its history
is there too. What a crash leaves is a history that is ahead of its statuses, and `PhaseRestored` reads that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence

from services.status import metrics
from services.status.decision.messages import (
    HopMeasured,
    PublishPhaseChange,
    PublishStatus,
    RunningReached,
    StatusInstruction,
    WriteCluster,
)
from services.status.read_model import ReadModel
from shared.events.envelope import Envelope, Headers
from shared.events.topics import EVENTS, PHASE_CHANGED, STATUS, STATUS_CHANGED, MessageType
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import NewRecord, Partition, Position, Publisher, RecordTooLargeError
from shared.runtime.ids import new_id

log = get_logger(__name__)

SOURCE = "flotilla/status"


class Outbox:
    """`history` is where the next phase change will stand, by partition, as far as it was written from here."""

    def __init__(self, publisher: Publisher, read_model: ReadModel, clock: Clock) -> None:
        self._publisher = publisher
        self._read_model = read_model
        self._clock = clock
        self.history: dict[Partition, int] = {}

    async def deliver(self, instructions: Sequence[StatusInstruction], letters: Iterable[NewRecord] = ()) -> None:
        """Returns when everything is acknowledged; the read model follows in its own time. Raises LogError."""
        letters = list(letters)
        if not instructions and not letters:
            return
        await self._send_history([item for item in instructions if isinstance(item, PublishPhaseChange)])
        for letter in letters:
            await self._send(letter)
        for item in instructions:
            match item:
                case PublishStatus():
                    await self._send_status(item)
                case WriteCluster(cluster=cluster, view=view):
                    self._read_model.put(CLUSTERS_TABLE, cluster, view.to_json() if view else None)
                case HopMeasured(hop=hop, milliseconds=milliseconds):
                    metrics.HOP_SECONDS.labels(hop.value).observe(milliseconds / 1000)
        await self._publisher.flush()
        now_ms = self._clock.now_ms()
        for item in instructions:
            if isinstance(item, RunningReached):
                metrics.HOP_SECONDS.labels("running_to_status").observe(max(0, now_ms - item.running_at) / 1000)

    async def _send_history(self, changes: Sequence[PublishPhaseChange]) -> None:
        acknowledgements: list[Awaitable[Position]] = []
        for change in changes:
            headers = self._headers(PHASE_CHANGED, change.key, change.traceparent)
            record = NewRecord(EVENTS.name, change.key.encode(), change.event.to_json(), headers)
            acknowledgement = await self._send(record)
            if acknowledgement is not None:
                acknowledgements.append(acknowledgement)
            metrics.PHASE_CHANGES.labels(change.event.phase.value).inc()
            log.debug("phase changed", workload=change.key, phase=change.event.phase.value, cause=change.cause)
        if acknowledgements:
            await self._publisher.flush()
        for acknowledgement in acknowledgements:
            position = await acknowledgement
            partition = Partition(position.topic, position.partition)
            self.history[partition] = max(self.history.get(partition, 0), position.offset + 1)

    async def _send_status(self, item: PublishStatus) -> None:
        value = item.status.to_json() if item.status is not None else None
        headers = self._headers(STATUS_CHANGED, item.key, item.traceparent)
        await self._send(NewRecord(STATUS.name, item.key.encode(), value, headers))
        self._read_model.put(WORKLOADS_TABLE, item.key, value)
        metrics.STATUSES.inc()

    async def _send(self, record: NewRecord) -> Awaitable[Position] | None:
        try:
            return await self._publisher.send(record)
        except RecordTooLargeError as error:
            # Sending it again cannot help, and nobody else may wait for it.
            metrics.TOO_LARGE.inc()
            log.warning("record too large", topic=record.topic, key=record.key, error=str(error))
            return None

    def _headers(self, message: MessageType, key: str, traceparent: str) -> Headers:
        return Envelope(
            id=new_id(),
            source=SOURCE,
            type=message.ce_type,
            time_ms=self._clock.now_ms(),
            subject=key,
            traceparent=traceparent,
        ).to_headers()
