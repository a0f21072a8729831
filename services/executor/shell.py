"""The executor as a service: the clusters that come and go, their shared command feed and outbox.

Every cluster is served by its own task, which begins again with back-off when it fails, so one cluster that cannot be
reached, or a defect, is no other cluster's business.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from services.executor import metrics
from services.executor.cluster_executor import ClusterExecutor
from services.executor.command_feed import CommandFeed
from services.executor.outbox import Outbox
from services.executor.settings import ExecutorSettings
from services.executor.wakefulness import was_suspended
from shared.adapters.clock import SteadyClock
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError
from shared.ports.event_log import EventLog
from shared.ports.node_groups import NodeGroupProviders
from shared.runtime.clusters import ClusterSource, Connect
from shared.runtime.service import Readiness

log = get_logger(__name__)

_LONGEST_WAIT_S = 30.0


@dataclass(slots=True)
class _Cluster:
    connect: Connect
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    executor: ClusterExecutor | None = None
    trouble: str = "not connected yet"


class ExecutorService:
    def __init__(
        self,
        events: EventLog,
        source: ClusterSource,
        providers: NodeGroupProviders,
        clock: Clock,
        settings: ExecutorSettings,
    ) -> None:
        self._source = source
        self._providers = providers
        self._clock = clock
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.executor_all_calls)
        self._outbox = Outbox(events, clock)
        # Apart, since its topic may not be there yet, and reports must not wait for that.
        self._inventories = Outbox(events, clock)
        self._feed = CommandFeed(events, clock)
        self._clusters: dict[str, _Cluster] = {}
        self._scanned = False

    def readiness(self) -> Readiness:
        """Ready when the commands and the owned objects of every cluster are known."""
        if not self._scanned:
            return Readiness(ready=False, reason="the clusters are not known yet")
        problems = {
            name: problem for name, cluster in self._clusters.items() if (problem := self._problem(name, cluster))
        }
        if not problems:
            return Readiness(ready=True)
        name, problem = min(problems.items())
        more = f" (and {len(problems) - 1} more of {len(self._clusters)} clusters)" if len(problems) > 1 else ""
        return Readiness(ready=False, reason=f"{name}: {problem}{more}")

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            feed = group.create_task(self._feed.run(), name="commands")
            outbox = group.create_task(self._outbox.run(), name="reports")
            inventories = group.create_task(self._inventories.run(), name="inventories")
            async with asyncio.TaskGroup() as clusters:
                while not stop.is_set():
                    await self._match_source(clusters)
                    await _wait(stop, self._settings.executor_scan_s)
                for cluster in self._clusters.values():
                    cluster.stop.set()
            feed.cancel()
            inventories.cancel()
            self._outbox.close()
            await outbox

    def _problem(self, name: str, cluster: _Cluster) -> str:
        if cluster.executor is None:
            return cluster.trouble
        return self._feed.problem(name) or cluster.executor.problem()

    async def _match_source(self, group: asyncio.TaskGroup) -> None:
        """Starts what is new and stops what is gone; a cluster whose file vanishes keeps all that runs in it."""
        found = await self._source.scan()
        self._scanned = True
        for name, connect in found.items():
            if name not in self._clusters:
                log.info("a cluster joins", cluster=name)
                cluster = self._clusters[name] = _Cluster(connect)
                cluster.task = group.create_task(self._serve(name, cluster), name=f"cluster-{name}")
        for name in [name for name in self._clusters if name not in found]:
            cluster = self._clusters[name]
            cluster.stop.set()
            if cluster.task is None or cluster.task.done():
                log.info("a cluster leaves", cluster=name)
                del self._clusters[name]

    async def _serve(self, name: str, cluster: _Cluster) -> None:
        failures = 0
        while not cluster.stop.is_set():
            started = self._clock.monotonic()
            try:
                await self._serve_once(name, cluster)
            except ApiError as error:
                cluster.trouble = str(error)
                log.warning("a cluster cannot be reached", cluster=name, error=str(error))
            except Exception as error:
                cluster.trouble = f"{type(error).__name__}: {error}"
                if was_suspended(error):
                    metrics.SUSPENSIONS.inc()
                    log.warning("the process was paused: everything is read again", cluster=name)
                else:
                    metrics.ERRORS.labels(name, "cluster").inc()
                    log.exception("a cluster's executor failed", cluster=name)
            if cluster.stop.is_set():
                return
            failures = failures + 1 if self._clock.monotonic() - started < _LONGEST_WAIT_S else 1
            ceiling = min(_LONGEST_WAIT_S, 0.5 * 2 ** min(failures, 10))
            await _wait(cluster.stop, random.uniform(ceiling / 2, ceiling))  # noqa: S311 - jitter

    async def _serve_once(self, name: str, cluster: _Cluster) -> None:
        settings = self._settings
        api = await cluster.connect()
        try:
            cluster.executor = ClusterExecutor(
                name,
                api,
                self._outbox.put,
                self._inventories.put_inventory,
                # What is due is due after some time, whatever becomes of the wall clock meanwhile.
                SteadyClock(self._clock),
                settings.policy(),
                inventory_s=settings.executor_inventory_s,
                workers=settings.executor_workers,
                calls=settings.executor_calls,
                slots=self._slots,
                providers=self._providers,
            )
            self._feed.add(name, cluster.executor.deliver)
            await cluster.executor.run(cluster.stop)
        finally:
            self._feed.remove(name)
            cluster.executor = None
            await api.close()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, or the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
