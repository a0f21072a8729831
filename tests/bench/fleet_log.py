"""The log of a large fleet, written directly: what it would hold if so many workloads ran, without running them.

Every workload has one replica, placed in one cluster and reported applied; its Deployment and its running pod are among
the objects, and so are nodes and heartbeats. The journal holds every decision, the publisher's checkpoint stands a few
entries before its end, and the placements are those of the whole journal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from services.scheduler.journal import Checkpoint, encode_entry, journal_partition, publisher_group
from shared.events.envelope import Envelope
from shared.events.topics import (
    CLUSTER_OBSERVED,
    COMMAND_REPORTED,
    OBJECT_OBSERVED,
    OBJECTS,
    PLACEMENT_PUBLISHED,
    PLACEMENTS,
    RESULTS,
    MessageType,
)
from shared.events.v1.decisions import (
    ClusterShare,
    Decision,
    DecisionsMade,
    EpochStarted,
    PodSetPlacement,
    RequestRef,
    WorkloadPlaced,
)
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.results import CommandReported
from shared.events.v1.workloads import Workload
from shared.model.identities import (
    APPLIED_BY,
    APPLIED_BY_LABEL,
    DIGEST_ANNOTATION,
    EPOCH_ANNOTATION,
    GENERATION_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    POD_SET_LABEL,
    WORKLOAD_LABEL,
    WORKLOAD_NAMESPACE_LABEL,
    heartbeat_key,
)
from shared.ports.event_log import EventLog, NewRecord

EPOCH, LEADER = 1, "before"
BATCH = 256
# So many entries of the journal stand behind the checkpoint, as they do while a publisher works.
AHEAD = 8
_LONG_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Size:
    clusters: int
    nodes: int
    workloads: int

    def cluster(self, number: int) -> str:
        return f"c{number % self.clusters:03d}"

    def node(self, number: int) -> str:
        """The node of a workload: it depends on the cluster, too."""
        return f"{self.cluster(number)}-n{(number // self.clusters) % (self.nodes // self.clusters):03d}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def name_of(number: int) -> tuple[str, str]:
    return f"team-{number % 50:02d}", f"w{number:06d}"


def placed(size: Size, number: int, image: str = "nginx") -> WorkloadPlaced:
    namespace, name = name_of(number)
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}}
    pod_set = {"name": "main", "replicas": 1, "image": image, "resources": resources}
    share = ClusterShare(cluster=size.cluster(number), replicas=1, nodes=(size.node(number),))
    return WorkloadPlaced(
        workload=Workload.model_validate({"namespace": namespace, "name": name, "podSets": [pod_set]}),
        uid=f"uid-{number}",
        workload_generation=1,
        request=RequestRef(id=f"request-{number}", published_at=now_ms(), position=f"fleet.requests/0/{number}"),
        pod_sets=(PodSetPlacement(name="main", desired=1, shares=(share,)),),
    )


def batch(decisions: tuple[Decision, ...]) -> NewRecord:
    entry = DecisionsMade(cell="0", epoch=EPOCH, leader=LEADER, decided_at=now_ms(), decisions=decisions)
    return encode_entry(entry, cell=0, leader=LEADER, at_ms=entry.decided_at)


def placement(item: WorkloadPlaced, generation: int) -> NewRecord:
    body = PlacementPublished(epoch=EPOCH, generation=generation, decided_at=now_ms(), placement=item)
    return _record(PLACEMENTS.name, str(item.workload.key), body.to_json(), PLACEMENT_PUBLISHED)


def report(size: Size, number: int, generation: int) -> NewRecord:
    namespace, name = name_of(number)
    subject = f"workload/{namespace}/{name}"
    body = CommandReported(
        cluster=size.cluster(number),
        subject=subject,
        epoch=EPOCH,
        generation=generation,
        digest=f"d{generation}",
        outcome="applied",
        reported_at=now_ms(),
        objects=1,
    )
    key = f"{body.cluster}/{subject}"
    return _record(RESULTS.name, key, body.to_json(), COMMAND_REPORTED, body.cluster)


def heartbeats(size: Size, *, interval_ms: int = _LONG_MS) -> Iterator[NewRecord]:
    for number in range(size.clusters):
        name = size.cluster(number)
        beat = ClusterObserved(cluster=name, epoch=1, observed_at=now_ms(), interval_ms=interval_ms, ready=True)
        yield _record(OBJECTS.name, heartbeat_key(name), beat.to_json(), CLUSTER_OBSERVED, name)


def nodes(size: Size) -> Iterator[NewRecord]:
    amounts = {"cpu": "32", "memory": "128Gi", "pods": "110"}
    ready = [{"type": "Ready", "status": "True"}]
    for number in range(size.nodes):
        cluster = size.cluster(number)
        name = size.node(number)
        document = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "uid": name, "resourceVersion": "1", "labels": {"zone": f"z{number % 3}"}},
            "spec": {},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": ready},
        }
        yield _object(cluster, "core/v1/nodes", "-", name, document)


def pod(size: Size, number: int, version: int = 1, *, ready: bool = True) -> NewRecord:
    """A running pod as an API server has it, about 2 kB."""
    namespace, name = name_of(number)
    labels = {"app": name, "pod-template-hash": "5d4f8c7b9"} | _labels(namespace, name)
    container = {
        "name": "main",
        "image": "nginx",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always",
        "volumeMounts": [{"name": "token", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/service"}],
    }
    moment = "2026-11-22T21:00:00Z"
    conditions = [
        {"type": kind, "status": str(ready), "lastProbeTime": None, "lastTransitionTime": moment}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    pod_name = f"{name}-main-5d4f8c7b9-abcde"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{name}-main", "uid": "u", "controller": True}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name,
            "namespace": namespace,
            "uid": f"pod-{number}",
            "resourceVersion": str(version),
            "creationTimestamp": moment,
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": size.node(number),
            "containers": [container],
            "volumes": [{"name": "token", "projected": {"sources": [], "defaultMode": 420}}],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "schedulerName": "default-scheduler",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
            "priority": 0,
        },
        "status": {
            "phase": "Running",
            "conditions": conditions,
            "hostIP": "10.0.0.1",
            "podIP": "10.1.0.1",
            "startTime": moment,
            "containerStatuses": [
                {"name": "main", "ready": ready, "restartCount": 0, "state": {"running": {"startedAt": moment}}}
            ],
            "qosClass": "Burstable",
        },
    }
    return _object(size.cluster(number), "core/v1/pods", namespace, pod_name, document)


def deployment(size: Size, number: int, generation: int) -> NewRecord:
    namespace, name = name_of(number)
    annotations = {
        EPOCH_ANNOTATION: str(EPOCH),
        GENERATION_ANNOTATION: str(generation),
        DIGEST_ANNOTATION: f"d{generation}",
    }
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": f"{name}-main",
            "namespace": namespace,
            "uid": f"deployment-{number}",
            "resourceVersion": "1",
            "generation": 1,
            "labels": _labels(namespace, name) | {APPLIED_BY_LABEL: APPLIED_BY},
            "annotations": annotations,
        },
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}},
        "status": {
            "observedGeneration": 1,
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": 1,
            "availableReplicas": 1,
        },
    }
    return _object(size.cluster(number), "apps/v1/deployments", namespace, f"{name}-main", document)


async def write(log: EventLog, size: Size) -> None:
    """All of it. Raises LogError."""
    publisher = await log.publisher("fleet-log")
    await publisher.send_many([*heartbeats(size), *nodes(size)])
    marker = EpochStarted(cell="0", epoch=EPOCH, leader=LEADER)
    position = await (await publisher.send(encode_entry(marker, cell=0, leader=LEADER, at_ms=now_ms())))
    offset = position.offset
    for start in range(0, size.workloads, BATCH):
        numbers = range(start, min(size.workloads, start + BATCH))
        decisions = [placed(size, number) for number in numbers]
        await publisher.send(batch(tuple(decisions)))
        offset += 1
        await publisher.send_many([placement(item, offset) for item in decisions])
        await publisher.send_many([report(size, number, offset) for number in numbers])
        await publisher.send_many([deployment(size, number, offset) for number in numbers])
        await publisher.send_many([pod(size, number) for number in numbers])
    await publisher.flush()
    await publisher.close()
    checkpoint = Checkpoint(max(1, offset + 1 - AHEAD), EPOCH, LEADER, {})
    await log.commit(publisher_group(0), {journal_partition(0): checkpoint.to_committed()})


def _labels(namespace: str, name: str) -> dict[str, str]:
    return {
        MANAGED_BY_LABEL: MANAGED_BY,
        WORKLOAD_LABEL: name,
        WORKLOAD_NAMESPACE_LABEL: namespace,
        POD_SET_LABEL: "main",
    }


def _object(cluster: str, resource: str, namespace: str, name: str, document: object) -> NewRecord:
    key = f"{cluster}/{resource}/{namespace}/{name}"
    return _record(OBJECTS.name, key, orjson.dumps(document), OBJECT_OBSERVED, cluster)


def _record(topic: str, key: str, value: bytes, kind: MessageType, cluster: str = "") -> NewRecord:
    headers = Envelope(id=key, source="bench", type=kind.ce_type, time_ms=now_ms()).to_headers()
    return NewRecord(topic, key.encode(), value, headers, cluster.encode() if cluster else None)
