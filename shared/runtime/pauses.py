"""Waits that a stop cuts short."""

from __future__ import annotations

import asyncio
import random
from typing import Final

_FIRST_S: Final = 0.5
_CAP_S: Final = 15.0


async def pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def back_off(stop: asyncio.Event, failures: int) -> None:
    """Half a second after the first of `failures` in a row, twice as long after each, at most 15 s; with jitter."""
    ceiling = min(_CAP_S, _FIRST_S * 2.0 ** min(failures - 1, 16))
    await pause(stop, ceiling * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, keeps no secret
