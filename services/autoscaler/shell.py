"""The autoscaler: read, look, tell; and build everything anew from the log when that fails.

A session is one life of the state, and ends when the log fails. Of several instances the newest works: it opens the
sole publisher of `fleet.scaling` and all else that it tells, so the broker refuses what an older one still says, and
that one stands by.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from services.autoscaler import metrics
from services.autoscaler.configuration import defaults, pace
from services.autoscaler.decision.learned import Learned
from services.autoscaler.decision.vertical.applying import Applying
from services.autoscaler.decision.workloads import ScaledWorkloads
from services.autoscaler.journal import PLACE
from services.autoscaler.session import Session
from services.autoscaler.settings import AutoscalerSettings
from services.autoscaler.windows import Windows
from shared.events.topics import (
    CLUSTERS,
    DECISIONS,
    METRICS,
    NODE_GROUPS,
    OBJECTS,
    PLACEMENTS,
    RESULTS,
    SAMPLING,
    SCALING,
    SOLE_WRITERS,
    STATUS,
    USAGE,
    WAITING,
    Topic,
    dead_letter_topic,
)
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError, Partition, WriterReplacedError
from shared.runtime.heap import building
from shared.runtime.ids import new_id
from shared.runtime.pauses import back_off
from shared.runtime.service import Readiness
from shared.runtime.tenure import Tenure

log = get_logger(__name__)

TOPICS: tuple[Topic, ...] = (
    CLUSTERS,
    DECISIONS,
    METRICS,
    NODE_GROUPS,
    OBJECTS,
    PLACEMENTS,
    RESULTS,
    SAMPLING,
    SCALING,
    STATUS,
    USAGE,
    WAITING,
    dead_letter_topic(METRICS),
    dead_letter_topic(SAMPLING),
)
TENURE = "flotilla-autoscaler-tenure"


class AutoscalerService:
    def __init__(self, events: EventLog, windows: Windows, clock: Clock, settings: AutoscalerSettings) -> None:
        self._log = events
        self._windows = windows
        self._clock = clock
        self._settings = settings
        place = Partition(SCALING.name, 0)
        self._tenure = Tenure(events, clock, settings.autoscaler_silent_s, TENURE, place)
        self._problem = "starting"
        self._standing_by = False

    def readiness(self) -> Readiness:
        ready = self._standing_by or not self._problem
        return Readiness(ready=ready, reason="" if ready else self._problem)

    async def run(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                await self._session(stop)
                failures = 0
            except* WriterReplacedError as replaced:
                await self._stand_by(_first(replaced), stop)
            except* LogError as error:
                failures = 1 if not self._problem else failures + 1
                self._problem = f"log: {_first(error)}"
                metrics.RESTARTS.inc()
                log.warning("session ended, beginning anew", error=self._problem, failures=failures)
                await back_off(stop, failures)

    async def _session(self, stop: asyncio.Event) -> None:
        """One life of the state, which ends with `stop`. Raises LogError, or a group of such."""
        async with AsyncExitStack() as stack:
            session = await self._open(stack)
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._tenure.keep(), name="tenure")
                self._problem = "reading the log"
                with building():
                    restored = await session.restore(stop)
                if restored:
                    self._problem = "waiting for samples"
                    await session.follow(stop, self._work)
                keeping.cancel()

    def _work(self) -> None:
        self._problem = ""

    async def _open(self, stack: AsyncExitStack) -> Session:
        self._problem = "opening the log"
        await self._log.ensure_topics([topic for topic in TOPICS if not await self._log.partitions(topic.name)])
        await self._tenure.claim()
        topics = (SCALING, SAMPLING, USAGE, NODE_GROUPS, WAITING)
        said = [place for topic in topics for place in await self._log.partitions(topic.name)]
        publisher = await self._log.sole_publisher("autoscaler", SOLE_WRITERS["autoscaler"], [*said, PLACE])
        stack.push_async_callback(publisher.close)
        reader = await self._log.reader("autoscaler-inputs")
        stack.push_async_callback(reader.close)
        life = new_id()
        workloads = ScaledWorkloads(
            defaults(self._settings),
            round(self._settings.autoscaler_stale_s * 1000),
            round(self._settings.autoscaler_remember_s * 1000),
            Learned(round(self._settings.autoscaler_learned_s * 1000)),
            life,
            Applying(pace(self._settings), life),
        )
        return Session(self._log, reader, publisher, self._windows, workloads, self._clock, self._settings)

    async def _stand_by(self, why: str, stop: asyncio.Event) -> None:
        log.warning("another instance has taken over: standing by", reason=why)
        self._standing_by = True
        metrics.STANDING_BY.set(1)
        await self._tenure.until_silent(stop)
        metrics.STANDING_BY.set(0)
        self._standing_by = False


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
