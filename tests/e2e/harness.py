"""A running fleet, and what a test asks of it: publish as a user, look as a user, touch clusters with kubectl."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.cli.fleet import LocalFleet
from services.cli.fleet.process import ROOT
from services.cli.fleet.requesting import request_record
from shared.adapters.kafka import KafkaLog
from shared.events.registry import decode
from shared.events.topics import EVENTS, STATUS
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase, WorkloadPhaseChanged, WorkloadStatus
from shared.model.identities import WORKLOAD_LABEL
from shared.ports.event_log import START, NewRecord
from shared.runtime.connections import kafka_options
from tests.testbed import run_kubectl

Json = dict[str, Any]
Predicate = Callable[[WorkloadStatus], bool]


def workload(name: str, *, namespace: str = "e2e", **pod_set: Any) -> Json:
    """A workload of one pod set `main`; keywords are the pod set's fields, `placement` apart."""
    placement = pod_set.pop("placement", {})
    document = {"name": "main", "replicas": 1, "image": "nginx", **pod_set}
    return {"namespace": namespace, "name": name, "podSets": [document], "placement": placement}


class Fleet:
    """`statuses` and `history` are kept up to date by `follow`, by workload key."""

    def __init__(self, local: LocalFleet, log: KafkaLog, kubectl: Path) -> None:
        self.local = local
        self.log = log
        self.kubectl_path = kubectl
        self._cache = local.directory / "kubectl-cache"
        self.statuses: dict[str, WorkloadStatus] = {}
        self.history: dict[str, list[WorkloadPhaseChanged]] = {}

    @property
    def clusters(self) -> dict[str, Path]:
        """Members by name."""
        return {path.stem: path for path in sorted(self.local.kubeconfigs.glob("*.kubeconfig"))}

    async def follow(self, ready: asyncio.Event) -> None:
        reader = await self.log.reader("e2e")
        try:
            partitions = [p for t in (STATUS.name, EVENTS.name) for p in await self.log.partitions(t)]
            await reader.assign(dict.fromkeys(partitions, START))
            ready.set()
            while True:
                for record in await reader.read(timeout_s=0.5):
                    key = (record.key or b"").decode()
                    if record.topic == EVENTS.name:
                        change = decode(WorkloadPhaseChanged, record.value)
                        self.history.setdefault(key, []).append(change)
                    elif record.value is None:
                        self.statuses.pop(key, None)
                    else:
                        self.statuses[key] = decode(WorkloadStatus, record.value)
        finally:
            await reader.close()

    async def why(self, *words: str) -> Json:
        """What `flotilla why` says, as JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", "why", *words, "-o", "json"),
            env={**os.environ, **self.local.common_environment(), "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(180):
            said, complaint = await process.communicate()
        assert process.returncode == 0, complaint.decode()
        document: Json = json.loads(said)
        return document

    async def publish(self, operation: str, body: Mapping[str, Any]) -> str:
        """Publishes a request; returns the workload's key."""
        request = WorkloadRequested.model_validate({"operation": operation, "workload": body})
        record, _, _ = request_record(request, source="e2e")
        await self.send(record)
        return str(request.key)

    async def send(self, *records: NewRecord) -> None:
        publisher = await self.log.publisher("e2e")
        try:
            for record in records:
                await publisher.send(record)
            await publisher.flush()
        finally:
            await publisher.close()

    async def apply(self, body: Mapping[str, Any]) -> str:
        return await self.publish("apply", body)

    async def delete(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        await self.publish("delete", {"namespace": namespace, "name": name})

    async def until(self, key: str, predicate: Predicate, *, within: float = 90.0) -> WorkloadStatus:
        """The first status of the workload for which the predicate holds; fails with the last one seen."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            status = self.statuses.get(key)
            if status is not None and predicate(status):
                return status
            self.local.check()
            await asyncio.sleep(0.05)
        raise AssertionError(f"{key} did not get there within {within} s; last: {self.statuses.get(key)}")

    async def until_phase(self, key: str, phase: Phase, *, within: float = 90.0) -> WorkloadStatus:
        return await self.until(key, lambda status: status.phase is phase, within=within)

    async def until_true(self, condition: Callable[[], Awaitable[bool]], what: str, *, within: float = 90.0) -> None:
        """Waits for something that is seen with kubectl: asked again and again."""
        deadline = time.monotonic() + within
        while not await condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within} s: {what}")
            await asyncio.sleep(0.2)

    async def kubectl(self, cluster: str, *arguments: str, stdin: str | None = None) -> str:
        return await run_kubectl(self.clusters[cluster], *arguments, stdin=stdin, cache=self._cache / cluster)

    async def hub_kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await run_kubectl(self.local.hub_kubeconfig, *arguments, stdin=stdin, cache=self._cache / "hub")

    async def objects(self, cluster: str, kind: str, name: str, namespace: str = "e2e") -> list[Json]:
        """The objects of one workload in one cluster."""
        selector = f"{WORKLOAD_LABEL}={name}"
        found = await self.kubectl(cluster, "get", kind, "-n", namespace, "-l", selector, "-o", "json")
        items: list[Json] = json.loads(found)["items"]
        return items

    async def pods(self, name: str, namespace: str = "e2e") -> dict[str, list[Json]]:
        """Living pods of one workload, by cluster; clusters without any are left out."""
        clusters = list(self.clusters)
        found = await asyncio.gather(*(self.objects(cluster, "pods", name, namespace) for cluster in clusters))
        living = {c: [pod for pod in pods if alive(pod)] for c, pods in zip(clusters, found, strict=True)}
        return {cluster: pods for cluster, pods in living.items() if pods}

    async def owners(self, name: str, namespace: str = "e2e") -> list[str]:
        """The clusters that have a deployment of the workload."""
        return [c for c in self.clusters if await self.objects(c, "deployments", name, namespace)]

    async def add_node(self, cluster: str, manifest: Json) -> None:
        await self.kubectl(cluster, "create", "-f", "-", stdin=json.dumps(manifest))


def alive(pod: Json) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in {"Pending", "Running"}


@asynccontextmanager
async def followed(local: LocalFleet, kubectl: Path) -> AsyncIterator[Fleet]:
    """A fleet that runs, with statuses that are kept up to date."""
    log = await KafkaLog.connect(kafka_options(local.settings()), "e2e")
    fleet, ready = Fleet(local, log, kubectl), asyncio.Event()
    following = asyncio.create_task(fleet.follow(ready))
    try:
        await asyncio.wait_for(ready.wait(), 30)
        yield fleet
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await log.close()
