"""The only place where the autoscaler's settings become adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.autoscaler.settings import AutoscalerSettings
from services.autoscaler.shell import AutoscalerService
from services.autoscaler.windows import FaustWindows
from shared.adapters.clock import SystemClock
from shared.runtime.connections import kafka_options, open_log


async def build(settings: AutoscalerSettings, stack: AsyncExitStack) -> AutoscalerService:
    events = await open_log(settings, "autoscaler", stack)
    windows = FaustWindows(kafka_options(settings))
    return AutoscalerService(events, windows, SystemClock(), settings)
