"""Commands for the executor's tests, as the scheduler's publisher renders them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from shared.events.v1.commands import CommandIssued, ManagedObject, PodBinding, PodGroup

CLUSTER = "east"
SUBJECT = "workload/shop/web"


def deployment(name: str = "web-main", *, image: str = "nginx:1", replicas: int = 1, **metadata: Any) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, **metadata},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}},
        },
    }


def config_map(name: str = "settings", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def job(name: str = "once", *, ttl_s: int | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}
    }
    if ttl_s is not None:
        spec["ttlSecondsAfterFinished"] = ttl_s
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def pod_group(
    nodes: Mapping[str, str],
    *,
    image: str = "nginx:1",
    restart: str = "Always",
    pod_set: str = "main",
    annotations: Mapping[str, str] | None = None,
    ports: Sequence[Mapping[str, Any]] = (),
    requests: Mapping[str, str] | None = None,
) -> PodGroup:
    """Pods of one shape, by name and node; `requests` of their container by resource."""
    container: dict[str, Any] = {"name": "main", "image": image}
    if requests:
        container["resources"] = {"requests": {**requests}}
    if ports:
        container["ports"] = [*ports]
    manifest = {
        "metadata": {"labels": {"app": "web"}, "annotations": {**(annotations or {})}},
        "spec": {"restartPolicy": restart, "containers": [container]},
    }
    bindings = tuple(PodBinding(name=name, node=node) for name, node in nodes.items())
    return PodGroup(pod_set=pod_set, manifest=manifest, bindings=bindings)


def command(
    generation: int,
    *objects: dict[str, Any],
    pods: Sequence[PodGroup] = (),
    subject: str = SUBJECT,
    cluster: str = CLUSTER,
    epoch: int = 1,
    action: str = "run",
    digest: str | None = None,
    leased: bool = False,
) -> CommandIssued:
    managed = tuple(ManagedObject(pod_set="main", manifest=manifest) for manifest in objects)
    content = [action, [item.manifest for item in managed], [group.model_dump() for group in pods]]
    return CommandIssued(
        cluster=cluster,
        subject=subject,
        namespace=subject.split("/")[1],
        epoch=epoch,
        generation=generation,
        digest=digest or hashlib.sha256(orjson.dumps(content)).hexdigest(),
        action=action,
        objects=managed,
        pods=tuple(pods),
        leased=leased,
    )


def withdrawal(generation: int, *, subject: str = SUBJECT, epoch: int = 1) -> CommandIssued:
    return command(generation, subject=subject, epoch=epoch, action="withdraw")
