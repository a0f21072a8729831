"""Brings time to the clusters: one task that runs whatever controllers have work, and lets requests through between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from services.simulator.cluster import Cluster

_SLICE = 200
"""Reconciles of one cluster before others and the network get their turn."""
_IDLE_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Driver:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._clusters: dict[str, Cluster] = {}
        self._ready: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, cluster: Cluster) -> None:
        self._clusters[cluster.spec.name] = cluster
        self.notify(cluster.spec.name)

    def remove(self, name: str) -> None:
        self._clusters.pop(name, None)
        self._ready.pop(name, None)

    def notify(self, name: str) -> None:
        self._ready[name] = None
        self._wake.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="simulator-driver")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now = self._clock()
            next_due = now + _IDLE_SECONDS
            for name, cluster in list(self._clusters.items()):
                due = cluster.engine.next_due()
                if name in self._ready or (due is not None and due <= now):
                    self._ready.pop(name, None)
                    if self._step(name, cluster):
                        self._ready[name] = None
                    await asyncio.sleep(0)
                    due = cluster.engine.next_due()
                if due is not None:
                    next_due = min(next_due, due)
            if self._ready:
                continue
            timer = loop.call_later(max(next_due - self._clock(), 0.0), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    def _step(self, name: str, cluster: Cluster) -> bool:
        try:
            return cluster.run(self._clock(), _SLICE)
        except Exception:  # noqa: BLE001  # logged with its trace; see below
            # One broken object must not stop every cluster; the key that failed was already taken off the queue.
            _log.exception("reconcile failed", cluster=name)
            return True
