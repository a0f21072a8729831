"""The only place where the status service's settings become adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.status.settings import StatusSettings
from services.status.shell import StatusService
from shared.adapters.clock import SystemClock
from shared.adapters.redis import RedisKeyValue, RedisOptions
from shared.runtime.connections import open_log


async def build(settings: StatusSettings, stack: AsyncExitStack) -> StatusService:
    events = await open_log(settings, "status", stack)
    store = RedisKeyValue.open(
        RedisOptions(settings.redis_url, timeout_s=settings.status_redis_timeout_s, ca_file=settings.status_redis_ca)
    )
    stack.push_async_callback(store.close)
    return StatusService(events, store, SystemClock(), settings)
