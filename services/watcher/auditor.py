"""The audit of one cluster: is what was published what exists, and is it what the log has?

At intervals each resource is listed beside its watch, a page at a time and slowly, and compared with what was
published; then its digest goes to the log, by which readers find out whether they hold the same. A resource of which
one of them says that it does not is read back from the log, compared by object, and listed at once.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from services.watcher import metrics
from services.watcher.decision.auditing import Audits
from services.watcher.decision.stimuli import (
    AuditClosed,
    AuditFailed,
    AuditStarted,
    ListCompared,
    LogCompared,
    Step,
)
from services.watcher.outlet import Outlet
from services.watcher.readback import read_states
from shared.events.states import object_name
from shared.events.v1.discrepancies import DiscrepancyFound
from shared.model.identities import Resource
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, Change, ChangeType, ClusterApi
from shared.ports.event_log import EventLog, Partition

log = get_logger(__name__)

# A watch says where it stands each minute, and is opened anew when it does not for 100 s.
PASSED_S: Final = 240.0
LOOK_S: Final = 0.5
# Longest time for one list, with its pauses: what takes longer is tried again in the next round.
LIST_S: Final = 600.0
# More than this is a mirror that lags far behind, or is lost; the next round sees to the rest.
MAX_SUSPECTS: Final = 5000


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """With `interval_s` 0 only what is doubted is audited. `objects_per_s` is how fast a list is read at most."""

    interval_s: float = 600.0
    objects_per_s: float = 2000.0


DEFAULT_AUDIT: Final = AuditPolicy()


@dataclass(frozen=True, slots=True)
class Listed:
    version: str
    names: set[str]
    suspects: dict[str, Step]


class _Taken:
    """What a list has named so far."""

    def __init__(self, audits: Audits, resource: Resource) -> None:
        self._audits = audits
        self._resource = resource
        self.names: set[str] = set()
        self.suspects: dict[str, Step] = {}

    def take(self, changes: Iterable[Change]) -> str | None:
        """The version of the list, if it ends here. Raises ApiError if it is refused for good."""
        for change in changes:
            name = object_name(change.namespace, change.name)
            match change.type:
                case ChangeType.SYNC_STARTED:
                    # A list that broke begins again.
                    self.names.clear()
                    self.suspects.clear()
                case ChangeType.LISTED:
                    self.names.add(name)
                    if len(self.suspects) < MAX_SUSPECTS:
                        self.suspects |= self._audits.suspects(self._resource, [change])
                case ChangeType.DELETED:
                    self.names.discard(name)
                    self.suspects.pop(name, None)
                case ChangeType.SYNC_FINISHED:
                    return change.resource_version
                case ChangeType.INTERRUPTED if change.error is not None and not change.error.retryable:
                    raise change.error
        return None


class Auditor:
    """Of one incarnation. `run` raises LogError and nothing else."""

    def __init__(
        self, api: ClusterApi, outlet: Outlet, events: EventLog, partition: Partition, clock: Clock, policy: AuditPolicy
    ) -> None:
        self._api = api
        self._outlet = outlet
        self._audits = outlet.mirror.audits
        self._cluster = outlet.mirror.cluster
        self._events = events
        self._partition = partition
        self._clock = clock
        self._policy = policy
        self._doubted: asyncio.Queue[Resource] = asyncio.Queue()
        self._waiting: set[Resource] = set()

    def doubt(self, found: DiscrepancyFound) -> None:
        """Somebody holds something else of a resource than this incarnation said."""
        if found.epoch != self._outlet.mirror.epoch:
            return
        resource = next((one for one in self._outlet.mirror.objects if str(one) == found.resource), None)
        if resource is not None and resource not in self._waiting:
            self._waiting.add(resource)
            self._doubted.put_nowait(resource)

    async def run(self) -> None:
        # Spread, so that clusters which join together are not listed together for ever.
        due = self._due(0.1, 1.0)
        while True:
            resource = await self._next_doubted(due)
            if resource is not None:
                await self._read_back(resource)
                await self._compare(resource)
            else:
                for each in sorted(self._outlet.mirror.objects):
                    await self._compare(each)
                due = self._due(0.9, 1.1)
            await self._outlet.feed(AuditClosed)
            metrics.AUDITED.labels(self._cluster).set(self._clock.now_ms() / 1000)

    def _due(self, least: float, most: float) -> float:
        """When the next whole round begins, by the monotonic clock."""
        interval = self._policy.interval_s or math.inf
        return self._clock.monotonic() + interval * random.uniform(least, most)  # noqa: S311 - jitter

    async def _next_doubted(self, due: float) -> Resource | None:
        """What is doubted next; None when it is time for a whole round."""
        left = due - self._clock.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.0) if left < math.inf else None):
                resource = await self._doubted.get()
        except TimeoutError:
            return None
        self._waiting.discard(resource)
        return resource

    # What the log has

    async def _read_back(self, resource: Resource) -> None:
        async with self._outlet.paused():
            sent = self._audits.published(resource)
        await self._outlet.flush()
        read = await read_states(self._events, self._partition, self._cluster, resource)
        before = self._audits.unlike_log[resource]
        await self._outlet.feed(partial(LogCompared, resource=resource, sent=sent, read=read))
        self._note(resource, "log", self._audits.unlike_log[resource] - before)

    # What the cluster has

    async def _compare(self, resource: Resource) -> None:
        await self._outlet.feed(partial(AuditStarted, resource=resource))
        try:
            async with asyncio.timeout(LIST_S):
                listed = await self._list(resource)
            passed = await self._watch_passes(resource, listed.version)
        except (ApiError, TimeoutError) as error:
            await self._give_up(resource, str(error) or "the list took too long")
            return
        if not passed:
            await self._give_up(resource, "the watch does not get there")
            return
        before = self._audits.unlike_cluster[resource]
        stimulus = partial(
            ListCompared, resource=resource, version=listed.version, listed=listed.names, suspects=listed.suspects
        )
        await self._outlet.feed(stimulus)
        metrics.AUDITS.labels(self._cluster, "compared").inc()
        self._note(resource, "cluster", self._audits.unlike_cluster[resource] - before)

    async def _list(self, resource: Resource) -> Listed:
        """The whole list; of its objects only those are kept that are not as published. Raises ApiError."""
        taken = _Taken(self._audits, resource)
        async with aclosing(self._api.list_watch_batches(resource)) as batches:
            async for changes in batches:
                version = taken.take(changes)
                if version is not None:
                    return Listed(version, taken.names, taken.suspects)
                await self._clock.sleep(len(changes) / self._policy.objects_per_s)
        raise ApiError(0, "Unreachable", "the list ended before it was complete")

    async def _watch_passes(self, resource: Resource, version: str) -> bool:
        deadline = self._clock.monotonic() + PASSED_S
        while (judged := self._audits.can_judge(resource, version)) is False:
            if self._clock.monotonic() > deadline:
                return False
            await self._clock.sleep(LOOK_S)
        return bool(judged)

    async def _give_up(self, resource: Resource, reason: str) -> None:
        metrics.AUDITS.labels(self._cluster, "unchecked").inc()
        log.info("not compared", cluster=self._cluster, resource=str(resource), reason=reason[:300])
        await self._outlet.feed(partial(AuditFailed, resource=resource))

    def _note(self, resource: Resource, against: str, number: int) -> None:
        if number > 0:
            metrics.DIFFERENCES.labels(self._cluster, str(resource), against).inc(number)
            log.warning(
                "audit found differences", cluster=self._cluster, resource=str(resource), against=against, number=number
            )
