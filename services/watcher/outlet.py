"""Where one incarnation's machine meets the log: stimuli in, records out, in order.

All tasks of a session share one outlet. Its lock spans deciding and sending, so that sequence numbers stand in the log
in their order; and while the log is slow, whoever holds the lock waits, the others wait behind it, and their watches
are not read: nothing piles up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from services.watcher import metrics
from services.watcher.decision.instructions import Publish
from services.watcher.decision.mirror import ClusterMirror
from services.watcher.records import RecordFactory
from shared.events.topics import MessageType
from shared.kernel.machine import Stimulus
from shared.model.base import Value
from shared.ports.clock import Clock
from shared.ports.event_log import LogError, Publisher

# A stimulus that still lacks its id and its time: `partial(ChangesArrived, resource=…, changes=…)`.
Make = Callable[..., Stimulus]


class Outlet:
    def __init__(self, mirror: ClusterMirror, publisher: Publisher, clock: Clock) -> None:
        self.mirror = mirror
        self._publisher = publisher
        self._clock = clock
        self._records = RecordFactory(mirror.cluster, mirror.epoch)
        self._lock = asyncio.Lock()
        self._stimuli = 0
        self._broken = False

    async def feed(self, make: Make) -> None:
        """Lets the machine decide and sends what it says. Raises LogError: the incarnation is over then."""
        async with self._lock:
            now = self._clock.now_ms()
            self._stimuli += 1
            published = self.mirror.handle(make(id=f"{self.mirror.epoch}-{self._stimuli}", at_ms=now))
            if not published:
                return
            if self._broken:
                # Whoever waited for the lock must not go on where the sequence has a gap.
                raise LogError("an earlier record was not sent")
            time = self._records.time(now)
            self._broken = True
            await self._publisher.send_many([self._records.object(publish, time) for publish in published])
            self._broken = False
            self._count(published)

    async def sample(self, message: MessageType, key: str, body: Value) -> None:
        """Sends a record of `fleet.metrics`. Raises LogError."""
        await self._publisher.send(self._records.sample(message, key, self._clock.now_ms(), body))
        metrics.SAMPLES.labels(self.mirror.cluster).inc()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Between two batches: who feeds the outlet can be cancelled inside without leaving half a batch behind."""
        async with self._lock:
            yield

    async def flush(self) -> None:
        """Raises LogError."""
        await self._publisher.flush()

    def _count(self, published: Sequence[Publish]) -> None:
        cluster = self.mirror.cluster
        for ce_type, count in Counter(publish.ce_type for publish in published).items():
            metrics.RECORDS.labels(cluster, ce_type).inc(count)
        metrics.BYTES.labels(cluster).inc(sum(len(publish.value) for publish in published if publish.value))
