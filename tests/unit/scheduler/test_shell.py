"""How often a scheduler may lose the log before its process ends."""

from __future__ import annotations

import asyncio

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.refusals import Refusals
from services.scheduler.replica import Replica
from services.scheduler.settings import SchedulerSettings
from services.scheduler.shell import SchedulerService
from shared.adapters.memory.event_log import MemoryLog, MemoryReader
from shared.events.topics import ALL_TOPICS
from shared.ports.event_log import LogError
from shared.testing.clock import FakeClock

TERMS = 25


class Tireless(FakeClock):
    """Nobody waits for anything."""

    async def sleep(self, seconds: float) -> None:
        self._elapsed += seconds
        await asyncio.sleep(0)


class Interrupted(SchedulerService):
    """Each of its terms is ended by the log once it is ready; the last one by its owner."""

    terms = 0

    async def _stand_by(self, replica: Replica, refusals: Refusals, stop: asyncio.Event) -> None:
        del replica, refusals
        assert self.readiness().ready
        self.terms += 1
        if self.terms == TERMS:
            stop.set()
        raise LogError("the broker is away for a moment")


class Unreadable(MemoryLog):
    tries = 0

    async def reader(self, client_id: str) -> MemoryReader:
        del client_id
        self.tries += 1
        raise LogError("nobody answers")


async def test_it_goes_on_however_often_the_log_went_away_and_came_back() -> None:
    events = MemoryLog()
    await events.ensure_topics(ALL_TOPICS)
    service = Interrupted(events, Tireless(), SchedulerSettings(), SchedulerConfig())
    await service.run(asyncio.Event())
    assert service.terms == TERMS


async def test_it_ends_when_the_log_stays_away() -> None:
    events = Unreadable()
    await events.ensure_topics(ALL_TOPICS)
    service = SchedulerService(events, Tireless(), SchedulerSettings(), SchedulerConfig())
    with pytest.raises(LogError, match="nobody answers"):
        await service.run(asyncio.Event())
    assert 10 <= events.tries < TERMS
