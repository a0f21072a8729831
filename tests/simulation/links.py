"""The way between one process and one server: how long a message takes, and what becomes of it."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from tests.simulation.futures import resolve
from tests.simulation.loop import WORLD, VirtualLoop

# A client gives up on a server that it cannot reach for so long, in seconds.
PATIENCE_S = 6.0


class Mishap(StrEnum):
    """What becomes of one request."""

    REFUSED = "refused"  # the server never saw it, and its sender learns so
    LOST = "lost"  # the server never saw it, and its sender waits in vain
    UNANSWERED = "unanswered"  # the server did it, and its sender waits in vain


_MISHAPS = tuple(Mishap)


@dataclass(slots=True)
class Link:
    """`mishaps` befall the next requests, one each. While it is `down_until` a moment, nothing passes."""

    loop: VirtualLoop
    rng: random.Random
    delay_s: float = 0.002
    down_until: float = 0.0
    down_since: float = 0.0
    # How many of a hundred requests go wrong, in any way; and of appends alone that follow from something, while the
    # journal takes its entries and questions are answered.
    lossy: int = 0
    lossy_appends: int = 0
    # The most records that a read is given at a time; 0 for as many as it asks for.
    portion: int = 0
    mishaps: deque[Mishap] = field(default_factory=deque)
    # Whoever waits to be told something over it: they look again when it has been down for too long.
    listeners: dict[asyncio.Future[None], None] = field(default_factory=dict)

    def delay(self) -> float:
        """One way, for one message that is sent now."""
        return self.delay_s * (0.5 + self.rng.random())

    def arrival(self) -> float:
        """When a message that is sent now arrives, in seconds from now: not before the link is up."""
        way = self.delay_s * (0.5 + self.rng.random())
        # Most links were never down: they are not asked for the time.
        return way + max(self.down_until - self.loop.time(), 0.0) if self.down_until else way

    def cut(self, seconds: float) -> None:
        now = self.loop.time()
        if now >= self.down_until:
            self.down_since = now
        self.down_until = max(self.down_until, now + seconds)
        self.loop.call_later(PATIENCE_S + 0.001, self._wake, context=WORLD)

    @property
    def down(self) -> bool:
        return self.loop.time() < self.down_until

    @property
    def lost(self) -> bool:
        """It has been down for longer than a client is patient."""
        return bool(self.down_until) and self.down and self.loop.time() - self.down_since > PATIENCE_S

    def _wake(self) -> None:
        if self.lost:
            for listener in self.listeners:
                resolve(listener, None)

    def mishap(self, *, follows: bool = False) -> Mishap | None:
        lossy = max(self.lossy, self.lossy_appends) if follows else self.lossy
        if lossy and self.rng.randrange(100) < lossy:
            return self.rng.choice(_MISHAPS)
        return self.mishaps.popleft() if self.mishaps else None
