"""Reads the next portion of a watch while the last one is on its way to the log.

Publishing waits for the broker again and again, for a millisecond or so; with one portion in hand that time is spent
decoding, which is a fifth of the whole (`tests/bench/watcher.py`). One portion, not more: a slow log slows the reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def one_ahead(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same items; `source` is closed with it."""
    async with aclosing(source):
        pending: asyncio.Task[T | None] = asyncio.create_task(_next(source))
        try:
            while (item := await pending) is not None:
                pending = asyncio.create_task(_next(source))
                yield item
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)


async def _next(source: AsyncGenerator[T, None]) -> T | None:
    return await anext(source, None)
