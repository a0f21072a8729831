"""The hub between a real API server and a real broker; the test plays scheduler, status service and watchers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson
from aiokafka.admin import AIOKafkaAdminClient

from services.hub.decision.resources import CLUSTERS, WORKLOADS
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.events.envelope import Envelope
from shared.events.registry import decode
from shared.events.topics import (
    ALL_TOPICS,
    CLUSTER_OBSERVED,
    OBJECTS,
    PLACEMENT_PUBLISHED,
    PLACEMENTS,
    REQUESTS,
    STATUS,
    STATUS_CHANGED,
    MessageType,
    Topic,
)
from shared.events.v1.decisions import ClusterShare, PodSetPlacement, RequestRef, WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import ClusterStatus, Condition, Counts, Phase, WorkloadStatus
from shared.events.v1.workloads import ApplyWorkload, Workload
from shared.model.base import Value
from shared.model.identities import Resource, heartbeat_key
from shared.ports.cluster_api import ApiError, Object
from shared.ports.event_log import START, NewRecord, Publisher, Record
from shared.runtime.ids import new_id
from tests.testbed.kubectl import run_kubectl

# Whatever is waited for comes within a second or two; a machine that is busy with other things may take its time.
WAIT_S = 60.0
ROOT = Path(__file__).parents[3]


async def until(
    done: Callable[[], Awaitable[Any]] | Callable[[], Any], what: str, within: float = WAIT_S, pause: float = 0.05
) -> Any:
    """The first result that is true; fails with what was waited for, and the last result."""
    deadline = time.monotonic() + within
    while True:
        result = done()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:.0f} s in vain for {what}; last: {result!r}")
        await asyncio.sleep(pause)


async def reset_topics(bootstrap: str) -> None:
    """Empty topics, as on the first day."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith("fleet.")]
        if names:
            await admin.delete_topics(names)

        async def gone() -> bool:
            return not any(name.startswith("fleet.") for name in await admin.list_topics())

        await until(gone, "the topics to be deleted")
    finally:
        await admin.close()
    log = await KafkaLog.connect(KafkaOptions(bootstrap=bootstrap), "reset")
    try:
        await log.ensure_topics(ALL_TOPICS)
    finally:
        await log.close()


class HubCluster:
    """The hub's API server, as its users see it."""

    def __init__(self, kubeconfig: Path, api: KubernetesApi) -> None:
        self.kubeconfig = kubeconfig
        self.api = api

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await run_kubectl(self.kubeconfig, *arguments, stdin=stdin)

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        try:
            return await self.api.get(resource, namespace, name)
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    async def status(self, resource: Resource, name: str, namespace: str = "") -> dict[str, Any]:
        found = await self.find(resource, name, namespace)
        return dict((found or {}).get("status") or {})

    async def condition(self, resource: Resource, name: str, kind: str, namespace: str = "") -> tuple[str, str]:
        status = await self.status(resource, name, namespace)
        found: dict[str, str] = next((c for c in status.get("conditions") or () if c["type"] == kind), {})
        return found.get("status", ""), found.get("reason", "")

    async def clean(self) -> None:
        """Takes everything away, finalizers or not."""
        for resource in (WORKLOADS, CLUSTERS):
            try:
                objects = await self.api.list(resource)
            except ApiError as error:
                if error.code == 404:
                    return
                raise
            for found in objects:
                meta = found["metadata"]
                namespace = meta.get("namespace", "")
                await self.api.delete(resource, namespace, meta["name"])
                if meta.get("finalizers"):
                    body = {"metadata": {"finalizers": None}}
                    await self.api.merge_patch(resource, namespace, meta["name"], body)


@dataclass
class Fleet:
    """Everything that is not the hub."""

    log: KafkaLog
    publisher: Publisher
    requests: list[Record] = field(default_factory=list)

    async def follow_requests(self) -> None:
        reader = await self.log.reader("test-requests")
        try:
            await reader.assign(dict.fromkeys(await self.log.partitions(REQUESTS.name), START))
            while True:
                self.requests += await reader.read(timeout_s=0.2)
        finally:
            await reader.close()

    async def records(self, topic: Topic) -> list[Record]:
        """All that a topic holds now."""
        reader = await self.log.reader("test-records")
        try:
            partitions = await self.log.partitions(topic.name)
            await reader.assign(dict.fromkeys(partitions, START))
            ends = await reader.end_offsets(partitions)
            found: list[Record] = []
            while any(reader.positions()[partition] < end for partition, end in ends.items()):
                found += await reader.read(timeout_s=0.2)
            return found
        finally:
            await reader.close()

    async def request(self, key: str, number: int = 1, within: float = WAIT_S) -> Record:
        """The `number`th request for a workload."""

        def arrived() -> Record | None:
            found = self.requests_for(key)
            return found[number - 1] if len(found) >= number else None

        record: Record = await until(arrived, f"request {number} for {key}", within)
        return record

    def requests_for(self, key: str) -> list[Record]:
        return [record for record in self.requests if record.key == key.encode()]

    async def place(self, record: Record, clusters: Sequence[str] = ("west",)) -> WorkloadPlaced:
        """Accepts a request as a scheduler would."""
        request = decode(WorkloadRequested, record.value).root
        assert isinstance(request, ApplyWorkload)
        return await self.place_workload(request.workload, event_id(record), clusters)

    async def place_workload(
        self, workload: Workload, request_id: str, clusters: Sequence[str] = ("west",), *, deleting: bool = False
    ) -> WorkloadPlaced:
        shares = tuple(ClusterShare(cluster=name, replicas=1) for name in clusters)
        placed = WorkloadPlaced(
            workload=workload,
            uid=f"fleet-{workload.name}",
            workload_generation=1,
            request=RequestRef(id=request_id, published_at=now_ms()),
            pod_sets=tuple(
                PodSetPlacement(name=item.name, desired=item.replicas or 1, shares=shares) for item in workload.pod_sets
            ),
            deleting=deleting,
        )
        published = PlacementPublished(epoch=1, generation=1, decided_at=now_ms(), placement=placed)
        await self.send(PLACEMENTS, PLACEMENT_PUBLISHED, str(workload.key), published)
        return placed

    async def forget(self, key: str) -> None:
        await self.send(PLACEMENTS, PLACEMENT_PUBLISHED, key, None)

    async def report(
        self, placed: WorkloadPlaced, phase: Phase, ready: int, clusters: Sequence[str] = ("west",)
    ) -> None:
        workload = placed.workload
        desired = sum(item.desired for item in placed.pod_sets)
        status = WorkloadStatus(
            namespace=workload.namespace,
            name=workload.name,
            uid=placed.uid,
            phase=phase,
            generation=1,
            request_id=placed.request.id,
            desired=desired,
            ready=ready,
            conditions=(
                Condition(type="Ready", status="True", reason="AllReplicasReady", last_transition_at=now_ms()),
            ),
            clusters=tuple(
                ClusterStatus(cluster=name, counts=Counts(desired=1, ready=1), applied=True) for name in clusters
            ),
            updated_at=now_ms(),
        )
        await self.send(STATUS, STATUS_CHANGED, str(workload.key), status)

    async def beat(self, name: str, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "cluster": name,
            "epoch": 1,
            "observed_at": now_ms(),
            "interval_ms": 2_000,
            "kubernetes_version": "v1.36.3",
            "ready": True,
            "labels": {"flotilla.dev/provider": "acme", "topology.kubernetes.io/region": "north"},
            "nodes": 3,
            "nodes_ready": 3,
            "capacity": {"cpu": "24", "memory": "96Gi"},
            "allocatable": {"cpu": "24", "memory": "96Gi"},
            "usage": {"cpu": "6", "memory": "24Gi"},
        }
        observed = ClusterObserved(**(fields | changes))
        await self.send(OBJECTS, CLUSTER_OBSERVED, heartbeat_key(name), observed, partition_key=name)

    async def send(
        self, topic: Topic, message: MessageType, key: str, value: Value | None, partition_key: str | None = None
    ) -> None:
        envelope = Envelope(id=new_id(), source="test", type=message.ce_type, time_ms=now_ms(), subject=key)
        record = NewRecord(
            topic.name,
            key.encode(),
            value.to_json() if value is not None else None,
            envelope.to_headers(),
            partition_key.encode() if partition_key else None,
        )
        await (await self.publisher.send(record))


class HubProcess:
    """`python -m services.hub`, killed at the end if nothing ended it before."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._log = directory / f"hub-{new_id()}.log"
        self._environment = {**os.environ, "FLOTILLA_LOG_FORMAT": "json", **environment}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.hub"), cwd=ROOT, env=self._environment, stdout=output, stderr=output
            )

    async def kill(self) -> None:
        """kill -9: nothing is flushed, nothing is said."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        return await self._end(signal.SIGTERM)

    @property
    def logged(self) -> list[dict[str, Any]]:
        lines = self._log.read_bytes().splitlines() if self._log.exists() else []
        return [orjson.loads(line) for line in lines if line.startswith(b"{")]

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.logged if line.get("event") == event]

    async def url(self) -> str:
        """Where it serves REST."""
        lines = await until(lambda: self.said("serving health and metrics"), "the hub to serve")
        return str(lines[-1]["url"])

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        async with asyncio.timeout(30):
            code = await self._process.wait()
        self._process = None
        return code

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self.kill()


def event_id(record: Record) -> str:
    header = record.header("ce_id")
    assert header is not None
    return header.decode()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def manifest(kind: str, name: str, spec: dict[str, Any] | None = None, **meta: Any) -> str:
    document: dict[str, Any] = {
        "apiVersion": "cluster.k8s.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **meta},
    }
    if spec is not None:
        document["spec"] = spec
    return orjson.dumps(document).decode()


WEB = {"podSets": [{"name": "app", "image": "nginx", "replicas": 3}]}
