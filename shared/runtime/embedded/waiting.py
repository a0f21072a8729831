"""Waiting for what sends no event: other processes, sockets, file locks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_POLL_S = 0.02


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float) -> bool:
    """Ask `condition` again and again; True as soon as it holds, False if it has not held within the time."""
    try:
        async with asyncio.timeout(within_s) as scope:
            while not await condition():  # noqa: ASYNC110 (there is no event: what is awaited is not in this process)
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        if scope.expired():
            return False
        raise  # the condition's own
    return True
