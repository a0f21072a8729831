"""Objects that wait to be looked at, as client-go's work queue: each is in it once, and worked on by one at a time.

The queue holds names, not facts, so it is bounded by the number of objects. What is added while it is worked on comes
again afterwards. Failures come back later and later; a success forgets them.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from services.hub.decision.instructions import Item
from shared.observability.metrics import Gauge

_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 30.0


class WorkQueue:
    """Belongs to one event loop. `close` before leaving it. `queued` is told how many wait."""

    def __init__(self, queued: Gauge) -> None:
        self._queued = queued
        self._order: deque[Item] = deque()
        self._waiting: set[Item] = set()
        self._active: set[Item] = set()
        self._again: set[Item] = set()
        self._timers: dict[Item, asyncio.TimerHandle] = {}
        self._failures: dict[Item, int] = {}
        # One for each that waits: it wakes one worker, where an event would wake them all.
        self._filled = asyncio.Semaphore(0)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Item, after_s: float = 0.0) -> None:
        """Now, or later unless it is to come sooner anyhow."""
        if after_s > 0:
            self._add_later(item, after_s)
        elif item in self._active:
            self._again.add(item)
        elif item not in self._waiting:
            self._waiting.add(item)
            self._order.append(item)
            self._filled.release()
            self._queued.set(len(self._waiting))

    async def take(self) -> Item:
        """The next object; `done` is to follow."""
        await self._filled.acquire()
        item = self._order.popleft()
        self._waiting.discard(item)
        self._active.add(item)
        self._queued.set(len(self._waiting))
        return item

    def done(self, item: Item) -> None:
        self._active.discard(item)
        if item in self._again:
            self._again.discard(item)
            self.add(item)

    def succeeded(self, item: Item) -> None:
        self._failures.pop(item, None)

    def failed(self, item: Item, retry_after_s: float | None) -> float:
        """Adds it again after a while, which is returned."""
        failures = self._failures.get(item, 0)
        self._failures[item] = failures + 1
        ceiling = min(_FIRST_RETRY_S * 2.0 ** min(failures, 20), _LAST_RETRY_S)
        pause = ceiling * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        pause = max(pause, retry_after_s or 0.0)
        self.add(item, pause)
        return pause

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _add_later(self, item: Item, after_s: float) -> None:
        loop = asyncio.get_running_loop()
        timer = self._timers.get(item)
        if timer is not None:
            if timer.when() <= loop.time() + after_s:
                return
            timer.cancel()
        self._timers[item] = loop.call_later(after_s, self._come, item)

    def _come(self, item: Item) -> None:
        del self._timers[item]
        self.add(item)
