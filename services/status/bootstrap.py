"""The only place where the status service's settings become adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.status.settings import StatusSettings
from services.status.shell import StatusService
from shared.adapters.clock import SystemClock
from shared.runtime.connections import open_log
from shared.runtime.read_model import open_store


async def build(settings: StatusSettings, stack: AsyncExitStack) -> StatusService:
    events = await open_log(settings, "status", stack)
    store = open_store(settings, stack, timeout_s=settings.status_redis_timeout_s)
    return StatusService(events, store, SystemClock(), settings)
