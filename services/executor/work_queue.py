"""A queue of keys without duplicates, after client-go's workqueue.

A key is handed to one worker at a time. Added while it waits, it stays one entry; added while it is worked on, it is
handed out once more when that is done, so that no change is missed. A key may also be due at a time: only the last
such time counts, as whoever sets it knows all that the key waits for.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque

from shared.ports.clock import Clock

# Outdated entries of the heap are dropped when they outnumber the valid ones by this.
_SLACK = 256


class WorkQueue:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: deque[str] = deque()
        self._dirty: set[str] = set()
        self._working: set[str] = set()
        self._due: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Whether nothing is ready or worked on; times to come do not count."""
        return not self._ready and not self._working

    def add(self, key: str) -> None:
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._changed.set()

    def add_at(self, key: str, at_ms: int) -> None:
        """Adds the key at a time (Unix milliseconds), instead of any time set before."""
        self._due[key] = at_ms
        heapq.heappush(self._heap, (at_ms, key))
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            self._heap = [(at, name) for name, at in self._due.items()]
            heapq.heapify(self._heap)
        self._changed.set()

    async def get(self) -> str:
        """The next key, which is worked on until `done`. For one caller at a time."""
        while True:
            wait_s = self._move_due()
            if self._ready:
                key = self._ready.popleft()
                self._dirty.discard(key)
                self._working.add(key)
                return key
            self._changed.clear()
            await self._wait(wait_s)

    def done(self, key: str) -> None:
        self._working.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._changed.set()

    def _move_due(self) -> float | None:
        """Makes ready what is due; the seconds until the next is, None if there is none."""
        now = self._clock.now_ms()
        while self._heap:
            at, key = self._heap[0]
            if self._due.get(key) == at:
                if at > now:
                    return (at - now) / 1000
                del self._due[key]
                self.add(key)
            heapq.heappop(self._heap)
        return None

    async def _wait(self, seconds: float | None) -> None:
        if seconds is None:
            await self._changed.wait()
            return
        waits = {
            asyncio.ensure_future(self._changed.wait()),
            asyncio.ensure_future(self._clock.sleep(seconds)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
