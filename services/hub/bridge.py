"""One life of the bridge: read both sides from the start, then act on what differs, until told to stop.

Nothing outlives it: a leader that was replaced, a broker that was away or a bug end it, and the next one begins from
lists and topics. Facts are folded as they come, on the event loop; workers look at one object each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from services.hub import metrics
from services.hub.decision.instructions import Deprovision, Due, Item, Look, Provision, Source
from services.hub.decision.machine import Bridge
from services.hub.decision.resources import CLUSTERS, WORKLOADS
from services.hub.effects import Effects, LeaseLostError, RateLimit
from services.hub.feeds import ObjectFeed, RecordFeed
from services.hub.provisioning import WORKERS, Making, Provisioners
from services.hub.settings import HubSettings
from services.hub.work_queue import WorkQueue
from shared.events.topics import CLUSTERS as DECLARATIONS
from shared.events.topics import OBJECTS, PLACEMENTS, REQUESTS, SOLE_WRITERS, STATUS
from shared.kernel.machine import Stimulus
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.cluster_api import ApiError, ClusterApi
from shared.ports.event_log import EventLog
from shared.runtime.service import Readiness

log = get_logger(__name__)

_CONFLICT = 409


class BridgeTerm:
    """Made anew for each life."""

    def __init__(
        self,
        api: ClusterApi,
        events: EventLog,
        making: Making,
        settings: HubSettings,
        clock: Clock,
        holds: Callable[[], bool],
    ) -> None:
        self._api = api
        self._events = events
        self._settings = settings
        self._clock = clock
        self._holds = holds
        self._bridge = Bridge(settings.policy())
        self._queue = WorkQueue(metrics.QUEUED)
        self._numbers = count(1)
        self._provisioners = Provisioners(making, self._emit, self._check, clock)

    def readiness(self) -> Readiness:
        missing = sorted(set(Source) - self._bridge.state.caught_up)
        return Readiness(ready=not missing, reason=f"still reading {', '.join(missing)}" if missing else "")

    async def run(self, stop: asyncio.Event) -> None:
        """Returns after `stop`. Raises LogError, LeaseLostError, or whatever else ended one of its parts."""
        # What a former leader still sends is refused before anything is read that could make up for it.
        spoken = [p for topic in (REQUESTS, DECLARATIONS) for p in await self._events.partitions(topic.name)]
        publisher = await self._events.sole_publisher("hub", SOLE_WRITERS["hub"], spoken)
        try:
            limit = RateLimit(self._settings.hub_writes_per_s, self._clock)
            effects = Effects(self._api, publisher, limit, self._clock, self._holds)
            await self._run_parts(effects, stop)
        finally:
            self._queue.close()
            await publisher.close()

    async def _run_parts(self, effects: Effects, stop: asyncio.Event) -> None:
        records = (STATUS, PLACEMENTS, DECLARATIONS)
        emit, clock = self._emit, self._clock
        parts = [
            ObjectFeed(self._api, CLUSTERS, Source.CLUSTERS, emit, clock).run(),
            ObjectFeed(self._api, WORKLOADS, Source.WORKLOADS, emit, clock).run(),
            RecordFeed(records, Source.RECORDS, emit, effects.refuse, clock).run(self._events),
            RecordFeed((OBJECTS,), Source.HEARTBEATS, emit, effects.refuse, clock).run(self._events),
            *(self._provisioners.work() for _ in range(WORKERS)),
            *(self._work(effects) for _ in range(self._settings.hub_workers)),
        ]
        tasks = [asyncio.create_task(part) for part in parts]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # None of the parts ends by itself but by an error.
                task.result()
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)

    def _check(self) -> None:
        if not self._holds():
            raise LeaseLostError("the lease was not renewed in time")

    def _emit(self, stimulus: Stimulus) -> None:
        for instruction in self._bridge.handle(stimulus):
            if isinstance(instruction, Look):
                self._queue.add(instruction.item, instruction.after_ms / 1000)

    async def _work(self, effects: Effects) -> None:
        while True:
            item = await self._queue.take()
            try:
                await self._look(item, effects)
                self._queue.succeeded(item)
            except ApiError as error:
                pause = self._queue.failed(item, error.retry_after_s)
                level = log.debug if error.code == _CONFLICT else log.warning
                level("write refused", item=_text(item), error=str(error), again_s=round(pause, 2))
            finally:
                self._queue.done(item)

    async def _look(self, item: Item, effects: Effects) -> None:
        due = Due(id=f"due:{next(self._numbers)}", at_ms=self._clock.now_ms(), item=item)
        for instruction in self._bridge.handle(due):
            if isinstance(instruction, Look):
                self._queue.add(instruction.item, instruction.after_ms / 1000)
                continue
            if isinstance(instruction, Provision | Deprovision):
                self._provisioners.put(instruction)
                continue
            log.debug("carrying out", instruction=type(instruction).__name__, item=_text(item), cause=due.id)
            stimulus = await effects.carry_out(instruction)
            if stimulus is not None:
                self._emit(stimulus)


def _text(item: Item) -> str:
    return f"cluster {item.name}" if item.is_cluster else f"workload {item.namespace}/{item.name}"
