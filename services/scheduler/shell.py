"""The scheduler's shell: rebuild, stand by, lead, and again.

Liveness is a matter of time: a leader that appended nothing for the length of the lease is replaced. Safety is a
matter of order: whoever appends `EpochStarted` of a higher epoch first leads, and everything that its predecessor
appends behind that is void, and the broker refuses it (the journal has a sole publisher). No clock is compared with
another machine's.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn, TypeVar

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.journal import encode_entry
from services.scheduler.leadership import Leadership
from services.scheduler.publisher import FencedError
from services.scheduler.refusals import Refusals
from services.scheduler.replica import Replica
from services.scheduler.settings import SchedulerSettings
from shared.adapters.clock import SteadyClock
from shared.events.topics import SOLE_WRITERS
from shared.events.v1.decisions import EpochStarted
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog, LogError, Publisher
from shared.runtime.heap import building
from shared.runtime.service import Readiness

T = TypeVar("T")
log = get_logger(__name__)

_READ_S = 0.5
# Records end a wait at once.
_INPUTS_S = 5.0
_LEAST_READ_S = 0.001
# Longest time between two looks at the journal that counts as silence: what is longer was our own.
_AWAKE_S = 1.0
_RETRY_S = 1.0
_MAX_RETRIES = 10


class SchedulerService:
    def __init__(self, events: EventLog, clock: Clock, settings: SchedulerSettings, config: SchedulerConfig) -> None:
        self._events = events
        self._clock = clock
        self._settings = settings
        self._config = config
        self._readiness = Readiness(ready=False, reason="the state is being rebuilt from the log")
        # Terms in a row that the log ended before they were ready.
        self._failures = 0

    def readiness(self) -> Readiness:
        return self._readiness

    async def run(self, stop: asyncio.Event) -> None:
        """Raises LogError when the log stays away: ten terms in a row end before the state is rebuilt."""
        while not stop.is_set():
            try:
                await self._term(stop)
            except FencedError as error:
                log.warning("replaced as leader", reason=str(error))
            except LogError as error:
                self._failures += 1
                log.warning("term ended by the log", error=str(error), failures=self._failures)
                if self._failures > _MAX_RETRIES:
                    raise
                await self._clock.sleep(_RETRY_S)

    async def _term(self, stop: asyncio.Event) -> None:
        """One life of a folded state: rebuilt, followed, led with, dropped."""
        self._readiness = Readiness(ready=False, reason="the state is being rebuilt from the log")
        settings = self._settings
        refusals = Refusals()
        async with AsyncExitStack() as stack:
            clock, cell = SteadyClock(self._clock), settings.scheduler_cell
            replica = Replica(self._events, clock, self._config, cell, settings.scheduler_id, refusals.add)
            with building():
                await replica.rebuild(stack)
            self._readiness = Readiness(ready=True)
            self._failures = 0
            while not stop.is_set():
                await self._stand_by(replica, refusals, stop)
                if stop.is_set():
                    return
                journal = await self._start_epoch(replica)
                if journal is not None:
                    log.info("leading", epoch=replica.fence.epoch, cell=cell)
                    await Leadership(self._events, clock, settings, replica, refusals, journal).run(stop)

    async def _stand_by(self, replica: Replica, refusals: Refusals, stop: asyncio.Event) -> None:
        """Follows the leader until it has been silent for the length of the lease, or has resigned.

        Only time in which this replica itself was awake counts: after a pause of its own it must read before it judges.
        What cannot be read is for the leader to refuse; where there was none, for this replica, which is one at once.
        """
        if not replica.fence.epoch:
            return
        spread = zlib.crc32(self._settings.scheduler_id.encode()) % 200 / 1000
        lease = self._settings.scheduler_lease_s + spread
        silent = 0.0
        looked_at = self._clock.monotonic()
        async with _beside(_follow_inputs(replica)) as inputs:
            while not stop.is_set() and (left := (spread if replica.resigned else lease) - silent) > 0:
                entries = await replica.follow_journal(min(_READ_S, max(left, _LEAST_READ_S)))
                if inputs.done():
                    inputs.result()
                if entries:
                    await replica.pass_over_guarded()
                refusals.drop()
                now = self._clock.monotonic()
                silent = 0.0 if entries else silent + min(now - looked_at, _AWAKE_S)
                looked_at = now
        refusals.drop()

    async def _start_epoch(self, replica: Replica) -> Publisher | None:
        """Appends the marker of a new epoch. Returns the journal's publisher if this replica leads now.

        A try that fails costs nothing that is warm: whether the marker stands in the journal all the same, the journal
        will tell.
        """
        settings = self._settings
        name = f"{SOLE_WRITERS['scheduler']}journal-{settings.scheduler_cell}"
        journal: Publisher | None = None
        try:
            async with asyncio.timeout(settings.kafka_timeout_s):
                journal = await self._events.sole_publisher(f"scheduler-{settings.scheduler_id}-journal", name)
                # A marker of the same epoch may have been first. Since ours stands behind it, the broker refuses
                # whoever wrote it from now on, so the next epoch must be ours, or nobody would lead.
                while not await self._append_marker(replica, journal):
                    log.info("another replica was first", leader=replica.fence.leader, epoch=replica.fence.epoch)
            lead, journal = journal, None
        except (LogError, TimeoutError) as error:
            log.warning("no epoch started", after=replica.fence.epoch, reason=str(error) or "no answer in time")
            return None
        else:
            return lead
        finally:
            if journal is not None:
                await journal.close()

    async def _append_marker(self, replica: Replica, journal: Publisher) -> bool:
        """Whether it counts: it was the first of its epoch."""
        cell, name = self._settings.scheduler_cell, self._settings.scheduler_id
        marker = EpochStarted(cell=str(cell), epoch=replica.fence.epoch + 1, leader=name)
        record = encode_entry(marker, cell=cell, leader=name, at_ms=self._clock.now_ms())
        position = await (await journal.send(record))
        await replica.catch_up(position.offset)
        return (replica.fence.epoch, replica.fence.leader) == (marker.epoch, marker.leader)


async def _follow_inputs(replica: Replica) -> NoReturn:
    """Until cancelled, which is only while it waits: what is read is folded. Raises LogError."""
    while True:
        await replica.follow_inputs(_INPUTS_S)
        # Also while there is always something to fold, the journal gets its turn.
        await asyncio.sleep(0)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Runs beside the block, and not longer. Whoever wants to know how it ended has to ask in time."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
