"""The manifests of the suite."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def config_map(name: str = "one", data: Json | None = None, **metadata: Any) -> Json:
    meta = {"name": name, **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data or {"a": "1"}}


def pod_spec(**more: Any) -> Json:
    return {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}], **more}


def pod(name: str = "one", labels: Json | None = None, **spec: Any) -> Json:
    meta = {"name": name, "labels": labels or {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec(**spec)}


def template(app: str, **spec: Any) -> Json:
    return {"metadata": {"labels": {"app": app}}, "spec": pod_spec(**spec)}


def workload(kind: str, name: str = "web", replicas: int | None = 2, **spec: Any) -> Json:
    """A Deployment, ReplicaSet, StatefulSet or (replicas=None) DaemonSet."""
    counted = {} if replicas is None else {"replicas": replicas}
    described = {"selector": {"matchLabels": {"app": name}}, "template": template(name), **counted, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": described}


def job(name: str = "task", **spec: Any) -> Json:
    described = {"template": {"spec": pod_spec(restartPolicy="Never")}, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": described}
