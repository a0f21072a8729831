"""Clusters in virtual time, and what to put into them."""

from __future__ import annotations

from typing import Any

from services.simulator.cluster import Cluster
from services.simulator.core.deleting import delete
from services.simulator.core.identity import Target
from services.simulator.core.options import DeleteOptions, WriteOptions, Written
from services.simulator.core.writing import create
from services.simulator.spec import ClusterSpec, NodeGroup, Timing

Json = dict[str, Any]

START = 1_700_000_000.0
EXACT = Timing(pod_start=2, pod_start_jitter=0, pod_stop=1, job_run=3, node_grace=10, orphan_grace=5, crash_backoff=10)


def cluster(*groups: NodeGroup, timing: Timing = EXACT, seed: str = "test", **more: Any) -> Cluster:
    spec = ClusterSpec(name="unit", node_groups=groups or (NodeGroup(count=2, cpu="4"),), timing=timing, **more)
    return Cluster(spec, now=START, on_work=lambda: None, seed=seed)


def target(made: Cluster, kind: str, name: str = "", namespace: str = "default") -> Target:
    versions = {"Pod": "v1", "ConfigMap": "v1", "Node": "v1", "Job": "batch/v1", "Lease": "coordination.k8s.io/v1"}
    resource = made.state.resource(versions.get(kind, "apps/v1"), kind)
    return Target(resource, namespace if resource.namespaced else "", name)


def add(made: Cluster, body: Json, **options: Any) -> Written:
    return create(made.state, target(made, body["kind"]), body, WriteOptions(manager="test", **options))


def drop(made: Cluster, kind: str, name: str, **options: Any) -> None:
    delete(made.state, target(made, kind, name), DeleteOptions(**options))


def pod(name: str = "one", requests: Json | None = None, annotations: Json | None = None, **spec: Any) -> Json:
    container = {"name": "main", "image": spec.pop("image", "app:1"), "resources": {"requests": requests or {}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": annotations or {}},
        "spec": {"containers": [container], **spec},
    }


def deployment(name: str = "web", replicas: int = 2, **spec: Any) -> Json:
    body = pod(name, **spec)
    template = {"metadata": {"labels": {"app": name}}, "spec": body["spec"]}
    described = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": described}


def get(made: Cluster, storage: str, name: str, namespace: str = "default") -> Json:
    found = made.state.find(storage, namespace, name)
    assert found is not None, f"{storage} {name} is not there"
    return found


def pods(made: Cluster) -> list[Json]:
    return [item.object for item in made.state.items("pods")]


def condition(obj: Json, kind: str) -> Json:
    return next(entry for entry in obj["status"]["conditions"] if entry["type"] == kind)
