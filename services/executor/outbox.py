"""Reports on their way to `fleet.results`, until the log has acknowledged them.

The latest report of a subject replaces an earlier one that is still waiting: a report states how things are. A refusal
is kept apart, since it asks for something (to publish again) that a later state does not ask for. So the outbox is
bounded by the number of subjects. What was sent and not acknowledged is sent again, by a new publisher.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from contextlib import AsyncExitStack

from services.executor import metrics
from services.executor.decision.instructions import Report
from shared.events.envelope import Envelope
from shared.events.topics import COMMAND_REPORTED, INVENTORIES, INVENTORY_REPORTED, RESULTS
from shared.events.v1.inventories import InventoryReported
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError, NewRecord, Publisher, RecordTooLargeError
from shared.runtime.ids import new_id

log = get_logger(__name__)

_BATCH = 500
_ACKNOWLEDGED_S = 60.0
_Key = tuple[str, str, bool]


class Outbox:
    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._waiting: OrderedDict[_Key, NewRecord] = OrderedDict()
        self._changed = asyncio.Event()
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, instruction: Report) -> None:
        report = instruction.report
        metrics.REPORTS.labels(report.cluster, report.outcome).inc()
        self._enqueue((report.cluster, report.subject, report.outcome == "refused"), self._record(instruction))

    def put_inventory(self, inventory: InventoryReported) -> None:
        envelope = Envelope(
            id=new_id(),
            source=f"flotilla/executor/{inventory.cluster}",
            type=INVENTORY_REPORTED.ce_type,
            time_ms=self._clock.now_ms(),
            subject=inventory.cluster,
        )
        key = inventory.cluster.encode()
        record = NewRecord(INVENTORIES.name, key, inventory.to_json(), envelope.to_headers())
        self._enqueue((inventory.cluster, "", False), record)

    def _enqueue(self, key: _Key, record: NewRecord) -> None:
        self._waiting.pop(key, None)
        self._waiting[key] = record
        self._changed.set()

    def close(self) -> None:
        """Makes `run` return when all that waits is acknowledged."""
        self._closing = True
        self._changed.set()

    async def run(self) -> None:
        failures = 0
        while not (self._closing and not self._waiting):
            try:
                async with AsyncExitStack() as stack:
                    publisher = await self._events.publisher("executor")
                    stack.push_async_callback(publisher.close)
                    await self._publish(publisher)
            except LogError as error:
                failures += 1
                delay = random.uniform(0, min(30.0, 0.25 * 2 ** min(failures, 10)))  # noqa: S311 - jitter
                metrics.REPORT_RETRIES.inc()
                log.warning("reports wait", error=str(error), reports=len(self._waiting), retry_s=round(delay, 2))
                await self._clock.sleep(delay)

    async def _publish(self, publisher: Publisher) -> None:
        while True:
            self._changed.clear()
            batch = [self._waiting.popitem(last=False) for _ in range(min(_BATCH, len(self._waiting)))]
            if batch:
                await self._send(publisher, batch)
            elif self._closing:
                return
            else:
                await self._changed.wait()

    async def _send(self, publisher: Publisher, batch: list[tuple[_Key, NewRecord]]) -> None:
        try:
            acknowledgements = []
            for key, record in batch:
                try:
                    acknowledgements.append(await publisher.send(record))
                except RecordTooLargeError as error:
                    log.warning("a report is too large", cluster=key[0], subject=key[1], error=str(error))
                    metrics.ERRORS.labels(key[0], "report").inc()
            # The log has deadlines of its own; this one is for the day on which it does not keep them.
            async with asyncio.timeout(_ACKNOWLEDGED_S):
                for acknowledgement in acknowledgements:
                    await acknowledgement
        except TimeoutError as error:
            self._back(batch)
            raise LogError(f"reports were not acknowledged within {_ACKNOWLEDGED_S:g} s") from error
        except BaseException:
            self._back(batch)
            raise

    def _back(self, batch: list[tuple[_Key, NewRecord]]) -> None:
        """Not known to be delivered: back to the head, unless something newer waits. Repeating does no harm."""
        for key, record in reversed(batch):
            if key not in self._waiting:
                self._waiting[key] = record
                self._waiting.move_to_end(key, last=False)

    def _record(self, instruction: Report) -> NewRecord:
        report = instruction.report
        key = f"{report.cluster}/{report.subject}"
        envelope = Envelope(
            id=new_id(),
            source=f"flotilla/executor/{report.cluster}",
            type=COMMAND_REPORTED.ce_type,
            time_ms=self._clock.now_ms(),
            subject=key,
            traceparent=instruction.traceparent,
            epoch=report.epoch,
        )
        return NewRecord(
            RESULTS.name,
            key.encode(),
            report.to_json(),
            envelope.to_headers(),
            partition_key=report.cluster.encode(),
        )
