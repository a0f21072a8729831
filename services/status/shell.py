"""The status service: read, decide, publish, commit; and build everything anew from the log when that fails.

A session is one life of the state. It ends when the log fails; the next one restores from what the log holds, so
nothing that a session had in memory is needed. Of several instances the newest works, and the others stand by.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from services.status import metrics
from services.status.decision.machine import StatusMachine
from services.status.read_model import ReadModel
from services.status.session import Readers, Session
from services.status.settings import StatusSettings
from shared.adapters.clock import SteadyClock
from shared.events.topics import (
    DISCREPANCIES,
    EVENTS,
    INVENTORIES,
    OBJECTS,
    PLACEMENTS,
    RESULTS,
    SCALING,
    SOLE_WRITERS,
    STATUS,
    WAITING,
    Topic,
    dead_letter_topic,
)
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError, Partition, Reader, WriterReplacedError
from shared.ports.key_value import KeyValue
from shared.runtime.heap import building
from shared.runtime.pauses import back_off
from shared.runtime.service import Readiness
from shared.runtime.tenure import Tenure

log = get_logger(__name__)

_INPUTS = (PLACEMENTS, RESULTS, OBJECTS, INVENTORIES, SCALING, WAITING)
TOPICS: tuple[Topic, ...] = (*_INPUTS, STATUS, EVENTS, DISCREPANCIES, *(dead_letter_topic(topic) for topic in _INPUTS))
TENURE = "flotilla-status-tenure"
_DRAIN_READ_MODEL_S = 3.0


class StatusService:
    def __init__(self, events: EventLog, store: KeyValue, clock: Clock, settings: StatusSettings) -> None:
        self._log = events
        self._clock = clock
        self._settings = settings
        self._read_model = ReadModel(store, clock, settings.status_read_model_check_s)
        self._tenure = Tenure(events, clock, settings.status_silent_s, TENURE, Partition(STATUS.name, 0))
        self._problem = "starting"
        self._standing_by = False

    def readiness(self) -> Readiness:
        if self._standing_by:
            return Readiness(ready=True)
        if self._problem:
            return Readiness(ready=False, reason=self._problem)
        if self._read_model.problem:
            return Readiness(ready=False, reason=f"read model: {self._read_model.problem}")
        return Readiness(ready=True)

    async def run(self, stop: asyncio.Event) -> None:
        writing = asyncio.create_task(self._read_model.run(), name="read-model")
        working = asyncio.create_task(self._sessions(stop), name="sessions")
        try:
            await asyncio.wait({writing, working}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                await writing
            await working
        finally:
            for task in (writing, working):
                task.cancel()
            await asyncio.gather(writing, working, return_exceptions=True)
        await self._read_model.drain(_DRAIN_READ_MODEL_S)

    async def _sessions(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                await self._session(stop)
                failures = 0
            except WriterReplacedError as error:
                await self._stand_by(str(error), stop)
            except LogError as error:
                failures = 1 if self._problem == "" else failures + 1
                self._problem = f"log: {error}"
                metrics.RESTARTS.inc()
                log.warning("session ended, beginning anew", error=str(error), failures=failures)
                await back_off(stop, failures)

    async def _session(self, stop: asyncio.Event) -> None:
        """One life of the state, which ends with `stop`. Raises LogError."""
        async with AsyncExitStack() as stack:
            session = await self._open(stack)
            keeping = asyncio.create_task(self._tenure.keep(), name="tenure")
            working = asyncio.create_task(self._work(session, stop), name="session")
            try:
                await asyncio.wait({keeping, working}, return_when=asyncio.FIRST_COMPLETED)
                for task in (working, keeping):
                    if task.done():
                        task.result()
            finally:
                for task in (keeping, working):
                    task.cancel()
                await asyncio.gather(keeping, working, return_exceptions=True)

    async def _work(self, session: Session, stop: asyncio.Event) -> None:
        self._problem = "reading the log"
        with building():
            restored = await session.restore(stop)
        if restored:
            self._problem = ""
            await session.follow(stop)

    async def _stand_by(self, why: str, stop: asyncio.Event) -> None:
        """Writes nothing anywhere until the instance that replaced this one is silent."""
        log.warning("another instance has taken over: standing by", reason=why)
        self._read_model.release()
        self._standing_by = True
        metrics.STANDING_BY.set(1)
        await self._tenure.until_silent(stop)
        metrics.STANDING_BY.set(0)
        self._standing_by = False

    async def _open(self, stack: AsyncExitStack) -> Session:
        self._problem = "opening the log"
        await self._log.ensure_topics([topic for topic in TOPICS if not await self._log.partitions(topic.name)])
        await self._tenure.claim()
        # What others tell from here on is refused, so all that was told is in the log when it is read.
        told = [partition for topic in (STATUS, EVENTS) for partition in await self._log.partitions(topic.name)]
        publisher = await self._log.sole_publisher("status", SOLE_WRITERS["status"], told)
        stack.push_async_callback(publisher.close)
        readers = [await self._reader(use, stack) for use in ("inputs", "statuses", "history", "ends")]
        machine = StatusMachine(retention_ms=round(self._settings.status_retention_s * 1000))
        clock = SteadyClock(self._clock)
        return Session(self._log, Readers(*readers), publisher, machine, self._read_model, clock, self._settings)

    async def _reader(self, use: str, stack: AsyncExitStack) -> Reader:
        reader = await self._log.reader(f"status-{use}")
        stack.push_async_callback(reader.close)
        return reader
