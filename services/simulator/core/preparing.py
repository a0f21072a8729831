"""What creation adds to an object that its client neither sent nor owns: addresses, selectors, an empty status.

Source: `PrepareForCreate` of k8s.io/kubernetes/pkg/registry/*/strategy.go, and admission.
"""

from __future__ import annotations

from collections.abc import Callable

from services.simulator.core.meta import Json
from services.simulator.core.pod_defaults import admit_pod

ClusterAddress = Callable[[], str]

_EMPTY_STATUS: dict[str, Json] = {
    "services": {"loadBalancer": {}},
    "persistentvolumeclaims": {"phase": "Pending"},
    "persistentvolumes": {"phase": "Available"},
    "deployments.apps": {},
    "replicasets.apps": {"replicas": 0},
    "statefulsets.apps": {"replicas": 0, "availableReplicas": 0},
    "daemonsets.apps": {
        "currentNumberScheduled": 0,
        "desiredNumberScheduled": 0,
        "numberMisscheduled": 0,
        "numberReady": 0,
    },
    "jobs.batch": {},
    "cronjobs.batch": {},
    "ingresses.networking.k8s.io": {"loadBalancer": {}},
    "poddisruptionbudgets.policy": {
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "disruptionsAllowed": 0,
        "expectedPods": 0,
    },
    "horizontalpodautoscalers.autoscaling": {"currentMetrics": None, "desiredReplicas": 0},
}


def _job(obj: Json, _: ClusterAddress) -> None:
    spec = obj["spec"]
    if spec["manualSelector"] or not isinstance(spec.get("template"), dict):
        return
    uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels[f"{prefix}controller-uid"] = uid
        labels[f"{prefix}job-name"] = name
    if not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)


def _pod(obj: Json, _: ClusterAddress) -> None:
    if obj.get("spec", {}).get("containers"):
        obj.update(admit_pod(obj))


def _service(obj: Json, address: ClusterAddress) -> None:
    spec = obj["spec"]
    if spec["type"] == "ExternalName":
        return
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    if not spec.get("clusterIP"):
        spec["clusterIP"] = address()
    spec.setdefault("clusterIPs", [spec["clusterIP"]])


def _namespace(obj: Json, _: ClusterAddress) -> None:
    obj.setdefault("spec", {})["finalizers"] = ["kubernetes"]
    obj["status"] = {"phase": "Active"}


_PREPARE: dict[str, Callable[[Json, ClusterAddress], None]] = {
    "jobs.batch": _job,
    "pods": _pod,
    "services": _service,
    "namespaces": _namespace,
}


def prepare_kind(storage: str, obj: Json, address: ClusterAddress) -> None:
    """Adds to the caller's own copy, in place."""
    if storage in _EMPTY_STATUS:
        obj["status"] = dict(_EMPTY_STATUS[storage])
    if (prepare := _PREPARE.get(storage)) is not None:
        prepare(obj, address)
