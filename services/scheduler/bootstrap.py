"""The only place where the scheduler's settings become adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.settings import SchedulerSettings
from services.scheduler.shell import SchedulerService
from shared.adapters.clock import SystemClock
from shared.events.topics import ALL_TOPICS
from shared.runtime.connections import open_log


async def build(settings: SchedulerSettings, stack: AsyncExitStack) -> SchedulerService:
    events = await open_log(settings, "scheduler", stack)
    await events.ensure_topics(ALL_TOPICS)
    return SchedulerService(events, SystemClock(), settings, SchedulerConfig())
