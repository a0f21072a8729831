"""One cluster's session: from its API server to the log, and again from the beginning after every failure of the log.

An *incarnation* lives as long as nothing is lost: it has one publisher, one machine, one epoch. When a record cannot be
delivered nobody knows what the log holds, so the incarnation ends and the next one learns it by reading, lists
everything anew, and publishes it under a larger epoch. The API server's troubles end no incarnation: they are the
list-watch's to heal, and the heartbeats say so meanwhile.

The epoch is the Unix time in milliseconds at which the incarnation began, or one more than the largest that the log has
of this cluster, whichever is larger: so it grows even when the clock was set back, and it needs no coordinator.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from services.watcher import metrics
from services.watcher.auditor import DEFAULT_AUDIT, Auditor, AuditPolicy
from services.watcher.decision.mirror import ClusterMirror
from services.watcher.decision.stimuli import (
    ChangesArrived,
    ClusterDescribed,
    ClusterLeft,
    HeartbeatDue,
    ResourcesChosen,
    ServerProbed,
)
from services.watcher.declarations import Declarations
from services.watcher.measuring import MetricsPoller, Sampling
from services.watcher.outlet import Outlet
from services.watcher.published import PublishedIndex
from services.watcher.queries import NO_QUERIES, Queries
from services.watcher.readback import Discrepancies
from services.watcher.standby import until_silent
from services.watcher.usage import UsagePoller
from shared.events.topics import SOLE_WRITERS
from shared.model.identities import Resource
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, Change, ChangeType, ClusterApi
from shared.ports.event_log import EventLog, LogError, Publisher, WriterReplacedError
from shared.runtime.clusters import Connect

log = get_logger(__name__)

RESTART_BASE_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
CONNECT_RETRY_S: Final = 5.0
# An incarnation that lived this long was a success: the next failure is the first again.
HEALTHY_S: Final = 60.0
CLOSE_S: Final = 10.0
# How long a stop waits for the batch that is being sent.
DRAIN_S: Final = 5.0
# A watcher that published nothing for so many heartbeats is taken to be gone.
SILENT_HEARTBEATS: Final = 3


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """All times in seconds. `metrics_s` 0 polls no metrics."""

    resources: frozenset[Resource]
    labels: Mapping[str, str]
    heartbeat_s: float = 3.0
    probe_timeout_s: float = 4.0
    metrics_s: float = 15.0
    queries: Queries = NO_QUERIES
    audit: AuditPolicy = DEFAULT_AUDIT


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all sessions of a process share."""

    log: EventLog
    index: PublishedIndex
    declarations: Declarations
    discrepancies: Discrepancies
    sampling: Sampling
    clock: Clock


class ServerMovedError(Exception):
    """The kubeconfig names another server now: what was seen on the old one means nothing there."""


class ClusterSession:
    """`run` until `stop` or `leave`. Nothing that happens to this cluster is raised: others go on beside it."""

    def __init__(
        self,
        cluster: str,
        connect: Connect,
        config: SessionConfig,
        surroundings: Surroundings,
    ) -> None:
        self.cluster = cluster
        self._connect = connect
        self._config = config
        self._log = surroundings.log
        self._index = surroundings.index
        self._declarations = surroundings.declarations
        self._discrepancies = surroundings.discrepancies
        self._sampling = surroundings.sampling
        self._clock = surroundings.clock
        self._stopping = asyncio.Event()
        self._leaving = self._left = False
        # What incarnations of this process may have sent, acknowledged or not.
        self._sent: set[str] = set()
        self.started = False

    def stop(self) -> None:
        """Ends the session; what it published stays."""
        self._stopping.set()

    def leave(self) -> None:
        """Ends the session and takes back all that it published: the cluster is no part of the fleet any more."""
        self._leaving = True
        self._stopping.set()

    async def run(self) -> None:
        failures = 0
        while not self._stopping.is_set() or (self._leaving and not self._left):
            began = self._clock.monotonic()
            try:
                await self._incarnation()
            except Exception as error:  # noqa: BLE001 - whatever it is, it stays this cluster's, and is logged
                if any(isinstance(cause, WriterReplacedError) for cause in leaves(error)):
                    failures = 0
                    await self._stand_by()
                    continue
                failures = 1 if self._clock.monotonic() - began > HEALTHY_S else failures + 1
                self._note_failure(error)
                await self._pause(failures)

    async def _incarnation(self) -> None:
        publisher = await self._sole_publisher()
        try:
            await self._publish_with(publisher)
        finally:
            async with asyncio.timeout(CLOSE_S):
                await publisher.close()

    async def _sole_publisher(self) -> Publisher:
        """From here on nobody else publishes for this cluster: what the log has of it can be read to a true end."""
        partition = await self._index.partition_of(self.cluster)
        name = f"{SOLE_WRITERS['watcher']}{self.cluster}"
        return await self._log.sole_publisher(f"watcher-{self.cluster}", name, [partition])

    async def _publish_with(self, publisher: Publisher) -> None:
        inherited = await self._index.of(self.cluster)
        epoch = max(self._clock.now_ms(), inherited.epoch + 1)
        mirror = ClusterMirror(
            self.cluster,
            epoch,
            round(self._config.heartbeat_s * 1000),
            labels=self._config.labels,
            inherited=inherited.keys | self._sent,
        )
        outlet = Outlet(mirror, publisher, self._clock)
        log.info("incarnation started", cluster=self.cluster, epoch=epoch, inherited=len(inherited.keys))
        try:
            await self._until_stopped(outlet)
            if self._leaving:
                await outlet.feed(ClusterLeft)
            await outlet.flush()
            self._left = self._leaving
        except BaseException:
            self._sent |= mirror.keys()
            raise
        log.info("incarnation ended", cluster=self.cluster, epoch=epoch, left=self._leaving)

    async def _stand_by(self) -> None:
        """Another watcher of this cluster began after this one, and publishes. Returns when that one is silent."""
        log.warning("another watcher has taken over: standing by", cluster=self.cluster)
        # What the other one publishes is in the log, and what vanishes meanwhile is inherited from there.
        self._sent.clear()
        metrics.STANDING_BY.labels(self.cluster).set(1)
        try:
            partition = await self._index.partition_of(self.cluster)
            silence_s = SILENT_HEARTBEATS * self._config.heartbeat_s
            await until_silent(self._log, partition, self.cluster, silence_s, self._clock, self._stopping)
        except LogError as error:
            self._note_failure(error)
            await self._pause(1)
        metrics.STANDING_BY.labels(self.cluster).set(0)
        # Whether the cluster left is for the one to tell that publishes.
        self._left = self._leaving

    async def _until_stopped(self, outlet: Outlet) -> None:
        working = asyncio.create_task(self._work(outlet), name=f"work-{self.cluster}")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
            async with asyncio.timeout(DRAIN_S), outlet.paused():
                await _cancel([working])
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def _work(self, outlet: Outlet) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self._describe(outlet)
            tasks.create_task(self._beat(outlet))
            api = await self._connected(outlet)
            try:
                async with asyncio.TaskGroup() as readers:
                    readers.create_task(self._probe(api, outlet))
                    readers.create_task(self._watch_all(api, outlet))
                    readers.create_task(self._audit(api, outlet))
                    for poller in self._pollers(api, outlet):
                        readers.create_task(poller.run())
            finally:
                await api.close()

    def _pollers(self, api: ClusterApi, outlet: Outlet) -> list[UsagePoller | MetricsPoller]:
        interval_s = self._config.metrics_s
        if interval_s <= 0:
            return []
        servers = self._config.queries.of_cluster(self.cluster)
        return [
            UsagePoller(self.cluster, api, outlet, self._clock, interval_s),
            MetricsPoller(self.cluster, api, outlet, self._clock, interval_s, self._sampling, servers),
        ]

    # Parts of an incarnation; each raises LogError

    async def _describe(self, outlet: Outlet) -> None:
        await self._declarations.loaded.wait()
        await outlet.feed(partial(ClusterDescribed, labels=self._declarations.labels(self.cluster)))

    async def _beat(self, outlet: Outlet) -> None:
        told: dict[Resource, int] = {}
        while True:
            await outlet.feed(HeartbeatDue)
            self.started = True
            for resource, count in outlet.mirror.objects.items():
                if told.get(resource) != count:
                    told[resource] = count
                    metrics.OBJECTS.labels(self.cluster, str(resource)).set(count)
            await self._clock.sleep(self._config.heartbeat_s)

    async def _connected(self, outlet: Outlet) -> ClusterApi:
        while True:
            try:
                return await self._connect()
            except ApiError as error:
                log.warning("not connected", cluster=self.cluster, reason=error.reason, error=error.message)
                await outlet.feed(partial(ServerProbed, error=f"{error.reason}: {error.message}"))
                await self._clock.sleep(CONNECT_RETRY_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _probe(self, api: ClusterApi, outlet: Outlet) -> None:
        """Asks for the version now and then: a watch alone would take minutes to notice that a server hangs."""
        server = api.server
        while True:
            version, error = "", ""
            try:
                async with asyncio.timeout(self._config.probe_timeout_s):
                    version = await api.version()
            except ApiError as failure:
                error = f"{failure.reason}: {failure.message}"
            except TimeoutError:
                error = f"no answer within {self._config.probe_timeout_s:g} s"
            if api.server != server:
                raise ServerMovedError(f"from {server} to {api.server}")
            await outlet.feed(partial(ServerProbed, version=version, error=error))
            await self._clock.sleep(self._config.heartbeat_s)

    async def _watch_all(self, api: ClusterApi, outlet: Outlet) -> None:
        """Keeps one watch for each resource that settings and declaration name, as they come and go."""
        watches: dict[Resource, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                version = self._declarations.version
                wanted = self._config.resources | self._declarations.resources(self.cluster)
                dropped = [watches.pop(resource) for resource in watches.keys() - wanted]
                async with outlet.paused():
                    await _cancel(dropped)
                await self._describe(outlet)
                await outlet.feed(partial(ResourcesChosen, resources=wanted))
                for resource in sorted(wanted - watches.keys()):
                    watches[resource] = tasks.create_task(self._watch(api, resource, outlet))
                await self._declarations.newer(version)

    async def _audit(self, api: ClusterApi, outlet: Outlet) -> None:
        partition = await self._index.partition_of(self.cluster)
        auditor = Auditor(api, outlet, self._log, partition, self._clock, self._config.audit)
        self._discrepancies.listen(self.cluster, auditor.doubt)
        await auditor.run()

    async def _watch(self, api: ClusterApi, resource: Resource, outlet: Outlet) -> None:
        async with aclosing(api.list_watch_batches(resource)) as batches:
            async for changes in batches:
                await outlet.feed(partial(ChangesArrived, resource=resource, changes=changes))
                self._note(resource, changes)

    # What an operator is told

    def _note(self, resource: Resource, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.type is ChangeType.SYNC_FINISHED:
                metrics.LISTS.labels(self.cluster, str(resource)).inc()
                log.info("in sync", cluster=self.cluster, resource=str(resource), version=change.resource_version)
            elif change.type is ChangeType.INTERRUPTED and change.error is not None:
                reason, message = change.error.reason, change.error.message
                metrics.INTERRUPTIONS.labels(self.cluster, str(resource), reason).inc()
                log.warning(
                    "interrupted", cluster=self.cluster, resource=str(resource), reason=reason, error=message[:300]
                )

    def _note_failure(self, error: Exception) -> None:
        metrics.RESTARTS.labels(self.cluster).inc()
        causes = leaves(error)
        if all(isinstance(cause, LogError | ServerMovedError | TimeoutError) for cause in causes):
            log.warning("session starts again", cluster=self.cluster, errors=[str(cause) for cause in causes])
        else:
            log.error("session starts again after a fault of its own", cluster=self.cluster, exc_info=error)

    async def _pause(self, failures: int) -> None:
        span = min(RESTART_MAX_S, RESTART_BASE_S * 2.0 ** min(failures, 10))
        seconds = span * random.uniform(0.2, 1.0)  # noqa: S311 - jitter
        if self._stopping.is_set():
            # The log has yet to hear that the cluster left.
            await self._clock.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def leaves(error: BaseException) -> list[BaseException]:
    """The errors that a task group wrapped."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
