"""The machine's clocks behind the port."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from shared.ports.clock import Clock

# Also the time in which the machine was suspended counts, where that can be known: leases end meanwhile.
_MONOTONIC: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.clock_gettime(_MONOTONIC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SteadyClock:
    """Another clock's Unix time as of now, carried on by its monotonic one: it does not jump when somebody sets it.

    For what is measured over Unix times, as silence is by those of heartbeats. Make a new one now and then: whether the
    time was wrong before or after it was set is not known.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_ms = clock.now_ms() - clock.monotonic() * 1000

    def now_ms(self) -> int:
        return round(self._began_ms + self._clock.monotonic() * 1000)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
