"""The scheduler's shell: rebuild, stand by, lead, and again.

Liveness is a matter of time: a leader that appended nothing for the length of the lease is replaced. Safety is a
matter of order: whoever appends `EpochStarted` of a higher epoch first leads, and everything that its predecessor
appends behind that is void. No clock is compared with another machine's.
"""

from __future__ import annotations

import asyncio
import zlib
from contextlib import AsyncExitStack

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.journal import encode_entry
from services.scheduler.leadership import Leadership
from services.scheduler.publisher import FencedError
from services.scheduler.refusals import Refusals
from services.scheduler.replica import Replica
from services.scheduler.settings import SchedulerSettings
from shared.events.v1.decisions import EpochStarted
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError
from shared.runtime.service import Readiness

log = get_logger(__name__)

_READ_S = 0.2
_RETRY_S = 1.0
_MAX_RETRIES = 10


class SchedulerService:
    def __init__(self, events: EventLog, clock: Clock, settings: SchedulerSettings, config: SchedulerConfig) -> None:
        self._events = events
        self._clock = clock
        self._settings = settings
        self._config = config
        self._readiness = Readiness(ready=False, reason="the state is being rebuilt from the log")

    def readiness(self) -> Readiness:
        return self._readiness

    async def run(self, stop: asyncio.Event) -> None:
        """Raises LogError when the log stays away for ten terms in a row."""
        failures = 0
        while not stop.is_set():
            try:
                await self._term(stop)
                failures = 0
            except FencedError as error:
                failures = 0
                log.warning("replaced as leader", reason=str(error))
            except LogError as error:
                failures += 1
                log.warning("term ended by the log", error=str(error), failures=failures)
                if failures > _MAX_RETRIES:
                    raise
                await self._clock.sleep(_RETRY_S)

    async def _term(self, stop: asyncio.Event) -> None:
        """One life of a folded state: rebuilt, followed, led with, dropped."""
        self._readiness = Readiness(ready=False, reason="the state is being rebuilt from the log")
        settings = self._settings
        refusals = Refusals()
        async with AsyncExitStack() as stack:
            replica = Replica(self._events, self._config, settings.scheduler_cell, settings.scheduler_id, refusals.add)
            await replica.rebuild(stack)
            self._readiness = Readiness(ready=True)
            while not stop.is_set():
                await self._stand_by(replica, refusals, stop)
                if stop.is_set():
                    return
                if await self._start_epoch(replica):
                    log.info("leading", epoch=replica.fence.epoch, cell=settings.scheduler_cell)
                    await Leadership(self._events, self._clock, settings, replica, refusals).run(stop)

    async def _stand_by(self, replica: Replica, refusals: Refusals, stop: asyncio.Event) -> None:
        """Follows the leader until it has been silent for the length of the lease."""
        spread = zlib.crc32(self._settings.scheduler_id.encode()) % 200 / 1000
        lease = self._settings.scheduler_lease_s + spread
        heard = self._clock.monotonic() if replica.fence.epoch else self._clock.monotonic() - lease
        while not stop.is_set() and self._clock.monotonic() - heard < lease:
            entries, _ = await asyncio.gather(replica.follow_journal(_READ_S), replica.follow_inputs(_READ_S))
            refusals.drop()
            if entries:
                heard = self._clock.monotonic()

    async def _start_epoch(self, replica: Replica) -> bool:
        """Appends the marker of the next epoch; whether it was the first to do so."""
        settings = self._settings
        entry = EpochStarted(
            cell=str(settings.scheduler_cell), epoch=replica.fence.epoch + 1, leader=settings.scheduler_id
        )
        publisher = await self._events.publisher(f"scheduler-{settings.scheduler_id}-epoch")
        try:
            ack = await publisher.send(
                encode_entry(
                    entry, cell=settings.scheduler_cell, leader=settings.scheduler_id, at_ms=self._clock.now_ms()
                )
            )
            position = await ack
        finally:
            await publisher.close()
        await replica.catch_up(position.offset)
        return (replica.fence.epoch, replica.fence.leader) == (entry.epoch, entry.leader)
