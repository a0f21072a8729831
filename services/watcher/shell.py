"""The service: a session for each cluster that there is, started and ended as clusters come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from services.watcher import metrics
from services.watcher.followed import Followed
from services.watcher.published import PublishedIndex
from services.watcher.readback import Discrepancies
from services.watcher.session import ClusterSession
from shared.observability.logs import get_logger
from shared.runtime.clusters import ClusterSource, Connect
from shared.runtime.service import Readiness

log = get_logger(__name__)

OpenSession = Callable[[str, Connect], ClusterSession]

_SHOWN: Final = 3


class WatcherService:
    def __init__(
        self,
        source: ClusterSource,
        open_session: OpenSession,
        followed: Sequence[Followed[Any]],
        discrepancies: Discrepancies,
        index: PublishedIndex,
        scan_s: float,
    ) -> None:
        self._source = source
        self._open = open_session
        # The first are the declarations, without which nothing begins.
        self._followed = followed
        self._discrepancies = discrepancies
        self._index = index
        self._scan_s = scan_s
        self._sessions: dict[str, ClusterSession] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._scanned = False

    async def run(self, stop: asyncio.Event) -> None:
        inputs = [
            *(asyncio.create_task(topic.run(), name=topic.name) for topic in self._followed),
            asyncio.create_task(self._discrepancies.run(), name="discrepancies"),
        ]
        try:
            while not stop.is_set():
                await self._scan()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._scan_s):
                        await stop.wait()
            for session in self._sessions.values():
                session.stop()
            await asyncio.gather(*self._tasks.values())
        finally:
            tasks = [*inputs, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._index.close()

    def readiness(self) -> Readiness:
        if not self._scanned or not self._followed[0].loaded.is_set():
            return Readiness(ready=False, reason="starting")
        waiting = sorted(name for name, session in self._sessions.items() if not session.started)
        if waiting:
            return Readiness(ready=False, reason=f"no heartbeat yet: {', '.join(waiting[:_SHOWN])}")
        return Readiness(ready=True)

    async def _scan(self) -> None:
        clusters = await self._source.scan()
        for name in self._sessions.keys() - clusters.keys():
            self._sessions[name].leave()
        for name in [name for name, task in self._tasks.items() if task.done()]:
            # A session ends only when it was told to; it raises nothing but what nobody foresaw.
            del self._sessions[name]
            await self._tasks.pop(name)
        for name in sorted(clusters.keys() - self._sessions.keys()):
            log.info("cluster found", cluster=name)
            self._sessions[name] = session = self._open(name, clusters[name])
            self._tasks[name] = asyncio.create_task(session.run(), name=f"session-{name}")
        metrics.SESSIONS.set(len(self._sessions))
        self._scanned = True
