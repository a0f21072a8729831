"""What the pods of a test cluster use, as `metrics.k8s.io` says it: a load profile, and usage as a pure function of it.

kwok's pods run nothing, so a test decides what they use. The profile is a file that the metrics server reads at each
request: it can be changed while the cluster runs, and a restarted server finds it again.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from shared.model.quantities import parse_quantity

GROUP_VERSION: Final = "metrics.k8s.io/v1beta1"
WINDOW: Final = "15s"


class Rule(BaseModel):
    """The use of each container of the pods whose `namespace/name` matches the pattern."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pods: str
    cpu_millicores: int
    memory_mebibytes: int


class LoadProfile(BaseModel):
    """The first rule that matches decides; otherwise a container uses these fractions of its requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu_fraction: float = 0.5
    memory_fraction: float = 0.5
    rules: Sequence[Rule] = ()
    # What a container uses that requests nothing, and what a node uses besides its pods.
    idle_millicores: int = 10
    idle_mebibytes: int = 50


def pod_metrics(pod: Mapping[str, Any], profile: LoadProfile, now: dt.datetime) -> dict[str, Any]:
    """A PodMetrics object."""
    metadata = pod["metadata"]
    rule = next(
        (r for r in profile.rules if fnmatch.fnmatchcase(f"{metadata['namespace']}/{metadata['name']}", r.pods)), None
    )
    containers = [
        {"name": c["name"], "usage": _usage(*_container(c, rule, profile))} for c in pod["spec"]["containers"]
    ]
    identity = {"name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata.get("labels", {})}
    return {**_envelope("PodMetrics", identity, now), "containers": containers}


def node_metrics(
    node: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], profile: LoadProfile, now: dt.datetime
) -> dict[str, Any]:
    """A NodeMetrics object: the node's own use and that of the pods that run on it."""
    metadata = node["metadata"]
    cpu, memory = Decimal(profile.idle_millicores) / 1000, Decimal(profile.idle_mebibytes) * 2**20
    for pod in pods:
        if pod["spec"].get("nodeName") == metadata["name"]:
            for container in pod_metrics(pod, profile, now)["containers"]:
                cpu += parse_quantity(container["usage"]["cpu"])
                memory += parse_quantity(container["usage"]["memory"])
    identity = {"name": metadata["name"], "labels": metadata.get("labels", {})}
    return {**_envelope("NodeMetrics", identity, now), "usage": _usage(cpu, memory)}


def is_running(pod: Mapping[str, Any]) -> bool:
    return bool(pod["status"].get("phase") == "Running" and pod["spec"].get("nodeName"))


def _container(container: Mapping[str, Any], rule: Rule | None, profile: LoadProfile) -> tuple[Decimal, Decimal]:
    """Cores and bytes in use."""
    if rule is not None:
        return Decimal(rule.cpu_millicores) / 1000, Decimal(rule.memory_mebibytes) * 2**20
    requests = container.get("resources", {}).get("requests", {})
    cpu, memory = parse_quantity(requests.get("cpu", "0")), parse_quantity(requests.get("memory", "0"))
    return (
        cpu * Decimal(str(profile.cpu_fraction)) or Decimal(profile.idle_millicores) / 1000,
        memory * Decimal(str(profile.memory_fraction)) or Decimal(profile.idle_mebibytes) * 2**20,
    )


def _usage(cpu: Decimal, memory: Decimal) -> dict[str, str]:
    """As metrics-server writes it: nanocores and kibibytes."""
    return {"cpu": f"{int(cpu * 10**9)}n", "memory": f"{int(memory / 1024)}Ki"}


def _envelope(kind: str, identity: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    timestamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": kind,
        "apiVersion": GROUP_VERSION,
        "metadata": {**identity, "creationTimestamp": timestamp},
        "timestamp": timestamp,
        "window": WINDOW,
    }
