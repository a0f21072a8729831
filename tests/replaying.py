"""Schedulers on a log in memory and in virtual time, and what a replay says of them afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import orjson

from services.cli.fleet.requesting import request_record
from services.scheduler.bootstrap import configuration
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import NODES, PODS
from services.scheduler.replay.engine import Replay
from services.scheduler.replay.source import LogSource
from services.scheduler.settings import SchedulerSettings
from services.scheduler.shell import SchedulerService
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import ALL_TOPICS, OBJECTS, PLACEMENTS, RESULTS, SCALING, Topic
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.events.v1.scaling import PodSetScaled, WorkloadScaled
from shared.kernel.replay import Verdict
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, ObjectKey, heartbeat_key
from shared.ports.event_log import NewRecord, Partition
from tests.simulation.loop import VirtualLoop
from tests.simulation.process import ProcessClock

Json = dict[str, Any]
CLUSTERS = ("east", "north", "west")
SETTINGS = SchedulerSettings(
    http_port=-1,
    scheduler_batch=4,
    scheduler_move_after_s=1.0,
    scheduler_tolerate_loss_s=2.0,
    scheduler_stable_s=3.0,
)


class Fleet:
    """A log in memory, two replicas of the scheduler, and a world that does what it is told."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.clock = ProcessClock(loop)
        self.log = MemoryLog(self.clock)
        self._replicas: dict[int, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._lives = 0

    async def begin(self) -> None:
        await self.log.ensure_topics(ALL_TOPICS)
        for cluster in CLUSTERS:
            self.beat(cluster, ready=True)
        for number in (0, 1):
            self.start(number)

    def start(self, number: int) -> None:
        self._lives += 1
        named = SETTINGS.model_copy(update={"scheduler_id": f"s{self._lives}"})
        service = SchedulerService(self.log, self.clock, named, configuration(named))
        stop = asyncio.Event()
        self._replicas[number] = (asyncio.ensure_future(service.run(stop)), stop)

    async def end(self, number: int, *, kill: bool) -> None:
        task, stop = self._replicas.pop(number)
        if kill:
            task.cancel()
        stop.set()
        with suppress(asyncio.CancelledError):
            await task

    async def close(self) -> None:
        for number in list(self._replicas):
            await self.end(number, kill=False)

    async def befall(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("node", cluster, name, document):
                self.object(ObjectKey(cluster, NODES, "", name), document)
            case ("beat", cluster, ready):
                self.beat(cluster, ready=ready)
            case ("pod", cluster, number, name, node, ready):
                self.object(ObjectKey(cluster, PODS, "default", f"p{number}"), pod(name, node, ready=ready))
            case ("no pod", cluster, number):
                self.object(ObjectKey(cluster, PODS, "default", f"p{number}"), None)
            case ("apply", _, document):
                self.request({"operation": "apply", "workload": document})
            case ("delete", name):
                self.request({"operation": "delete", "workload": {"name": name}})
            case ("scale", name, replicas):
                self.scale(name, replicas)
            case ("gone", cluster, name, generation):
                self.gone(cluster, name, generation)
            case ("wait", seconds):
                await asyncio.sleep(seconds)
            case ("kill" | "stop" as how, number):
                await self.end(number, kill=how == "kill")
                self.start(number)
            case ("compact",):
                self.log.compact(OBJECTS.name)

    def object(self, key: ObjectKey, document: Json | None) -> None:
        value = None if document is None else orjson.dumps(document)
        self.put(OBJECTS.name, str(key), value, key.cluster)

    def beat(self, cluster: str, *, ready: bool) -> None:
        beat = ClusterObserved(
            cluster=cluster, epoch=1, observed_at=self.clock.now_ms(), interval_ms=1_000, ready=ready
        )
        self.put(OBJECTS.name, heartbeat_key(cluster), beat.to_json(), cluster)

    def request(self, document: Json) -> None:
        self.log.append(request_record(WorkloadRequested.model_validate(document), source="test")[0])

    def scale(self, name: str, replicas: int) -> None:
        """What the autoscaler says of a workload that was placed, as far as it was published."""
        records = (self.log.segment(place).records for place in partitions_of(PLACEMENTS))
        values = [record.value for part in records for record in part if record.key == f"default/{name}".encode()]
        published = PlacementPublished.model_validate_json(values[-1]) if values and values[-1] else None
        if published is None or published.placement is None or not published.placement.workload.scaling:
            return
        pod_set = PodSetScaled(name=published.placement.workload.scaled_pod_set, replicas=replicas, before=1)
        said = WorkloadScaled(
            uid=published.placement.uid,
            workload_generation=published.placement.workload_generation,
            evaluated_at=self.clock.now_ms(),
            pod_sets=(pod_set,),
        )
        self.log.append(NewRecord(SCALING.name, f"default/{name}".encode(), said.to_json()))

    def gone(self, cluster: str, name: str, generation: int) -> None:
        report = CommandReported(
            cluster=cluster,
            subject=f"workload/default/{name}",
            epoch=1,
            generation=generation,
            digest="",
            outcome="withdrawn",
            reported_at=self.clock.now_ms(),
        )
        self.put(RESULTS.name, f"{cluster}/{report.subject}", report.to_json(), cluster)

    def put(self, topic: str, key: str, value: bytes | None, cluster: str) -> None:
        self.log.append(NewRecord(topic, key.encode(), value, (), partition_key=cluster.encode()))


def partitions_of(topic: Topic) -> list[Partition]:
    return [Partition(topic.name, number) for number in range(topic.partitions)]


def pod(workload: str, node: str, *, ready: bool) -> Json:
    labels = {WORKLOAD_LABEL: workload, WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: "main"}
    spec: Json = {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}
    if node:
        status: Json = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
        return {"metadata": {"labels": labels}, "spec": {**spec, "nodeName": node}, "status": status}
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"metadata": {"labels": labels}, "spec": spec, "status": {"phase": "Pending", "conditions": [condition]}}


async def replayed(fleet: Fleet, config: SchedulerConfig | None = None) -> tuple[list[Verdict], Replay]:
    """What is said of each decision in the fleet's journal."""
    async with AsyncExitStack() as stack:
        source = LogSource(fleet.log, fleet.clock, 0, 5.0)
        await source.open(stack)
        replay = Replay(source, config or configuration(SETTINGS), SETTINGS.scheduler_max_request_bytes)
        return [verdict async for verdict in replay.run()], replay


def in_virtual_time(work: Callable[[Fleet], Awaitable[None]]) -> None:
    """Does it with a fleet that has begun."""
    loop = VirtualLoop()

    async def run() -> None:
        fleet = Fleet(loop)
        await fleet.begin()
        await work(fleet)

    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
        asyncio.set_event_loop(None)
