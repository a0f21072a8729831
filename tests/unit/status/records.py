"""Records as scheduler, executors and watchers write them, for the tests of the shell."""

from __future__ import annotations

import json
from typing import Any

from services.status.settings import StatusSettings
from shared.events.topics import OBJECTS, PLACEMENTS, RESULTS
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.results import CommandReported
from shared.model.identities import (
    APPLIED_BY,
    APPLIED_BY_LABEL,
    DIGEST_ANNOTATION,
    GENERATION_ANNOTATION,
    POD_SET_LABEL,
    WORKLOAD_LABEL,
    WORKLOAD_NAMESPACE_LABEL,
    heartbeat_key,
)
from shared.ports.event_log import NewRecord
from tests.unit.status.world import KEY


def settings(**changes: Any) -> StatusSettings:
    return StatusSettings.model_validate({"status_tick_s": 0.05, "status_read_model_check_s": 0.05, **changes})


def placement_record(published: PlacementPublished | None, *, key: str = KEY) -> NewRecord:
    return NewRecord(PLACEMENTS.name, key.encode(), published.to_json() if published else None)


def result_record(cluster: str, generation: int = 1, *, key: str = KEY, at_ms: int, **changes: Any) -> NewRecord:
    report = CommandReported.model_validate(
        {
            "cluster": cluster,
            "subject": f"workload/{key}",
            "epoch": 1,
            "generation": generation,
            "digest": f"d{generation}",
            "outcome": "applied",
            "reported_at": at_ms,
            **changes,
        }
    )
    return NewRecord(
        RESULTS.name, f"{cluster}/{report.subject}".encode(), report.to_json(), partition_key=cluster.encode()
    )


def labels(key: str = KEY, *, applied: bool = False) -> dict[str, str]:
    namespace, name = key.split("/")
    own = {WORKLOAD_LABEL: name, WORKLOAD_NAMESPACE_LABEL: namespace, POD_SET_LABEL: "web"}
    return own | ({APPLIED_BY_LABEL: APPLIED_BY} if applied else {})


def pod(name: str, *, key: str = KEY, ready: bool = True, phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": labels(key), **metadata},
        "spec": {"containers": [{"name": "web", "image": "nginx"}]},
        "status": {
            "phase": phase,
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True" if ready else "False"},
            ],
        },
    }


def deployment(generation: int, replicas: int, *, key: str = KEY) -> dict[str, Any]:
    annotations = {GENERATION_ANNOTATION: str(generation), DIGEST_ANNOTATION: f"d{generation}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "cart-web",
            "namespace": "shop",
            "generation": 3,
            "labels": labels(key, applied=True),
            "annotations": annotations,
        },
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 3, "updatedReplicas": replicas, "readyReplicas": replicas},
    }


def object_record(cluster: str, resource: str, name: str, body: dict[str, Any] | None) -> NewRecord:
    value = None if body is None else json.dumps(body).encode()
    return NewRecord(OBJECTS.name, f"{cluster}/{resource}/shop/{name}".encode(), value, partition_key=cluster.encode())


def pod_record(cluster: str, name: str, **arguments: Any) -> NewRecord:
    return object_record(cluster, "core/v1/pods", name, pod(name, **arguments))


def heartbeat_record(cluster: str, *, at_ms: int, interval_ms: int = 60_000) -> NewRecord:
    observed = ClusterObserved(cluster=cluster, epoch=1, observed_at=at_ms, interval_ms=interval_ms, ready=True)
    return NewRecord(OBJECTS.name, heartbeat_key(cluster).encode(), observed.to_json(), partition_key=cluster.encode())
