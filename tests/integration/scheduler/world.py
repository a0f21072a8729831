"""A scheduler and the world around it, played through the topics: clusters that exist, users that ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import BaseModel

from services.cli.fleet.requesting import request_record
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.settings import SchedulerSettings
from services.scheduler.shell import SchedulerService
from shared.adapters.clock import SystemClock
from shared.events.envelope import Envelope
from shared.events.registry import decode
from shared.events.topics import (
    ALL_TOPICS,
    CLUSTER_OBSERVED,
    COMMAND_REPORTED,
    OBJECT_OBSERVED,
    OBJECTS,
    RESULTS,
    MessageType,
)
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.model.identities import ObjectKey, Resource, heartbeat_key
from shared.ports.event_log import START, EventLog, NewRecord, Record

Json = dict[str, Any]
M = TypeVar("M", bound=BaseModel)
NODES = Resource("", "v1", "nodes")
_LONG_MS = 3_600_000


def node(name: str, cpu: str = "8", memory: str = "32Gi") -> Json:
    resources = {"cpu": cpu, "memory": memory, "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "labels": {}},
        "spec": {},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def apply_request(name: str, replicas: int = 1, cpu: str = "100m", **placement: Any) -> WorkloadRequested:
    return WorkloadRequested.model_validate(
        {
            "operation": "apply",
            "workload": {
                "namespace": "it",
                "name": name,
                "podSets": [
                    {
                        "name": "main",
                        "replicas": replicas,
                        "image": "nginx",
                        "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}},
                    }
                ],
                "placement": placement,
            },
        }
    )


def delete_request(name: str) -> WorkloadRequested:
    return WorkloadRequested.model_validate({"operation": "delete", "workload": {"namespace": "it", "name": name}})


class World:
    def __init__(self, log: EventLog) -> None:
        self.log = log

    async def prepare(self, clusters: Iterable[str] = ("alpha", "beta"), nodes: int = 2) -> None:
        """Topics, and ready clusters with nodes."""
        await self.log.ensure_topics(ALL_TOPICS)
        for cluster in clusters:
            for number in range(nodes):
                await self.observe(cluster, node(f"{cluster}-{number}"))
            await self.heartbeat(cluster)

    async def send(self, *records: NewRecord) -> None:
        publisher = await self.log.publisher("world")
        try:
            for record in records:
                await publisher.send(record)
            await publisher.flush()
        finally:
            await publisher.close()

    async def observe(self, cluster: str, body: Json) -> None:
        key = str(ObjectKey(cluster, NODES, "", body["metadata"]["name"]))
        await self.send(_record(OBJECTS.name, key, json.dumps(body).encode(), OBJECT_OBSERVED, cluster))

    async def heartbeat(self, cluster: str) -> None:
        beat = ClusterObserved(
            cluster=cluster, epoch=1, observed_at=time.time_ns() // 1_000_000, interval_ms=_LONG_MS, ready=True
        )
        await self.send(_record(OBJECTS.name, heartbeat_key(cluster), beat.to_json(), CLUSTER_OBSERVED, cluster))

    async def report(self, report: CommandReported) -> None:
        key = f"{report.cluster}/{report.subject}"
        await self.send(_record(RESULTS.name, key, report.to_json(), COMMAND_REPORTED, report.cluster))

    async def request(self, *requests: WorkloadRequested) -> None:
        await self.send(*(request_record(request, source="test")[0] for request in requests))

    async def records(self, topic: str) -> list[Record]:
        """All that a topic holds now."""
        partitions = await self.log.partitions(topic)
        reader = await self.log.reader("look")
        try:
            await reader.assign(dict.fromkeys(partitions, START))
            ends = await reader.end_offsets(partitions)
            found: list[Record] = []
            while any(reader.positions()[p] < ends[p] for p in partitions):
                found += await reader.read(timeout_s=0.5)
            return found
        finally:
            await reader.close()

    async def latest(self, topic: str, model: type[M]) -> dict[str, M]:
        """The latest value of each key; tombstones take it away."""
        state: dict[str, M] = {}
        for record in await self.records(topic):
            key = (record.key or b"").decode()
            if record.value is None:
                state.pop(key, None)
            else:
                state[key] = decode(model, record.value)
        return state

    async def until(
        self, topic: str, model: type[M], condition: Callable[[dict[str, M]], bool], within: float = 60.0
    ) -> dict[str, M]:
        """The latest values of a topic as soon as the condition holds for them."""
        deadline = time.monotonic() + within
        while True:
            state = await self.latest(topic, model)
            if condition(state):
                return state
            assert time.monotonic() < deadline, f"{topic} after {within} s: {state}"
            await asyncio.sleep(0.05)


def _record(topic: str, key: str, value: bytes, kind: MessageType, cluster: str) -> NewRecord:
    headers = Envelope(id=key, source="test", type=kind.ce_type, time_ms=time.time_ns() // 1_000_000).to_headers()
    return NewRecord(topic, key.encode(), value, headers, partition_key=cluster.encode())


class RunningScheduler:
    def __init__(self, service: SchedulerService, task: asyncio.Task[None], stop: asyncio.Event) -> None:
        self.service = service
        self.task = task
        self._stop = stop

    async def stop(self) -> None:
        """A clean stop."""
        self._stop.set()
        await asyncio.wait_for(self.task, 30)

    async def crash(self) -> None:
        """Gone between two steps, without a farewell."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


def start_scheduler(log: EventLog, name: str) -> RunningScheduler:
    settings = SchedulerSettings(
        scheduler_id=name, scheduler_renew_s=0.1, scheduler_lease_s=0.5, http_port=-1, scheduler_batch=64
    )
    service = SchedulerService(log, SystemClock(), settings, SchedulerConfig())
    stop = asyncio.Event()
    return RunningScheduler(service, asyncio.create_task(service.run(stop), name=name), stop)


@asynccontextmanager
async def scheduler(log: EventLog, name: str = "one") -> AsyncIterator[RunningScheduler]:
    running = start_scheduler(log, name)
    try:
        yield running
    finally:
        if not running.task.done():
            await running.stop()
