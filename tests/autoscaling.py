"""A cluster with one scaled workload, as the log has it: what the autoscaler reads, without anybody who writes it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from services.cli.fleet.requesting import request_record
from shared.adapters.kafka import KafkaLog
from shared.events.topics import METRICS, OBJECTS
from shared.events.v1.metrics import ContainerUsage, PodMetricsSampled, PodUsage
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.requests import WorkloadRequested
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, heartbeat_key
from shared.ports.event_log import END, NewRecord, Reader, Record

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
CLUSTER = "east"
CPU: Json = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}
_FAST: Json = {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]}
# As far as is wanted, at once, both ways.
AT_ONCE: Json = {"scaleUp": _FAST, "scaleDown": {**_FAST, "stabilizationWindowSeconds": 0}}


def scaled_workload(name: str = "web", *, replicas: int = 2, behavior: Json | None = AT_ONCE, **more: Any) -> Json:
    pod_set = {"name": "main", "replicas": replicas, "image": "nginx", "resources": {"requests": {"cpu": "100m"}}}
    scaling = {"maxReplicas": 20, "metrics": [CPU], "behavior": behavior, **more}
    return {"name": name, "podSets": [pod_set], "scaling": {k: v for k, v in scaling.items() if v is not None}}


def pod_json(
    workload: str, *, cpu: str = "100m", phase: str = "Running", ready: bool = True, deleting: bool = False
) -> Json:
    """A pod that has run for a long time."""
    labels = {WORKLOAD_LABEL: workload, WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: "main"}
    since = "2020-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
    metadata: Json = {"labels": labels, **({"deletionTimestamp": since} if deleting else {})}
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n0", "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": phase, "startTime": since, "conditions": [condition]},
    }


def object_record(key: str, document: Json | None) -> NewRecord:
    value = None if document is None else orjson.dumps(document)
    return NewRecord(OBJECTS.name, f"{CLUSTER}/{key}".encode(), value, (), CLUSTER.encode())


def pod_record(name: str, document: Json | None) -> NewRecord:
    return object_record(f"core/v1/pods/default/{name}", document)


def node_record(name: str = "n0") -> NewRecord:
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "500"}
    ready = {"type": "Ready", "status": "True"}
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
    return object_record(f"core/v1/nodes/-/{name}", {"metadata": {"name": name}, "status": status})


def heartbeat_record(at_ms: int) -> NewRecord:
    beat = ClusterObserved(cluster=CLUSTER, epoch=1, observed_at=at_ms, interval_ms=600_000, ready=True)
    return NewRecord(OBJECTS.name, heartbeat_key(CLUSTER).encode(), beat.to_json(), (), CLUSTER.encode())


def sample(milli: int, pods: int, at_ms: int, *, workload: str = "web") -> PodMetricsSampled:
    """Every pod uses so many thousandths of a core."""
    used = (ContainerUsage(name="main", cpu=milli, memory=1 << 20),)
    usages = tuple(
        PodUsage(namespace="default", name=f"{workload}-{n}", cpu=milli, memory=1 << 20, window=15_000, containers=used)
        for n in range(pods)
    )
    return PodMetricsSampled(cluster=CLUSTER, sampled_at=at_ms, pods=usages)


def sample_record(milli: int, pods: int, at_ms: int) -> NewRecord:
    value = sample(milli, pods, at_ms).to_json()
    return NewRecord(METRICS.name, f"{CLUSTER}/pods".encode(), value, (), CLUSTER.encode())


def apply_record(document: Json) -> NewRecord:
    request = WorkloadRequested.model_validate({"operation": "apply", "workload": document})
    return request_record(request, source="test")[0]


async def follow(log: KafkaLog, topic: str) -> Reader:
    """What comes from now on."""
    reader = await log.reader(f"test-{topic}")
    partitions = await log.partitions(topic)
    await reader.assign(await reader.end_offsets(partitions) if partitions else dict.fromkeys(partitions, END))
    return reader


async def until(reader: Reader, wanted: Any, timeout_s: float = 240.0) -> Record:
    """The next record of which `wanted` is true."""
    async with asyncio.timeout(timeout_s):
        while True:
            for record in await reader.read(timeout_s=1.0):
                if wanted(record):
                    return record


class ServiceProcess:
    """`python -m services.<name>`, killed at the end if nothing ended it before."""

    def __init__(self, name: str, directory: Path, bootstrap: str, *arguments: str, **settings: str) -> None:
        self._command = (sys.executable, "-m", f"services.{name}", *arguments)
        self.log = directory / f"{name}.log"
        self._environment = {
            **os.environ,
            "FLOTILLA_KAFKA_BOOTSTRAP": bootstrap,
            "FLOTILLA_HTTP_PORT": "-1",
            "FLOTILLA_LOG_FORMAT": "json",
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, cwd=ROOT, env=self._environment, stdout=output, stderr=output
            )

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code, after a signal."""
        assert self._process is not None
        process, self._process = self._process, None
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(30):
                return await process.wait()
        except TimeoutError:
            process.kill()
            raise

    async def close(self) -> None:
        if self._process is not None:
            await self.end(signal.SIGKILL)


async def command(bootstrap: str, module: str, *arguments: str, **settings: str) -> tuple[int | None, str]:
    """The exit code of `python -m module`, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        env={**os.environ, "FLOTILLA_KAFKA_BOOTSTRAP": bootstrap, "COLUMNS": "200", **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(180):
        said, _ = await process.communicate()
    return process.returncode, said.decode()
