"""Pods and nodes."""

from __future__ import annotations

from typing import Any

from services.simulator.core.meta import Json, condition, is_deleting, labels_of
from services.simulator.core.printers.base import NONE, Printer, age_of, name_of, spec_of, status_of

_ROLE = "node-role.kubernetes.io/"


def pod_reason(pod: Json) -> str:
    """The STATUS column: the phase, unless a container, the kubelet or a deletion says more."""
    status = status_of(pod)
    reason = str(status.get("reason") or status.get("phase") or "Unknown")
    scheduled = condition(pod, "PodScheduled")
    if scheduled and scheduled.get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    for container in reversed(status.get("containerStatuses") or ()):
        state = container.get("state") or {}
        if waiting := (state.get("waiting") or {}).get("reason"):
            reason = str(waiting)
        elif (terminated := state.get("terminated")) is not None:
            reason = str(terminated.get("reason") or f"ExitCode:{terminated.get('exitCode', 0)}")
    if is_deleting(pod):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return reason


def _pod(pod: Json, now: float) -> list[Any]:
    status = status_of(pod)
    statuses = status.get("containerStatuses") or ()
    total = len(spec_of(pod).get("containers") or ())
    ready = sum(bool(entry.get("ready")) for entry in statuses)
    return [
        name_of(pod),
        f"{ready}/{total}",
        pod_reason(pod),
        str(sum(entry.get("restartCount", 0) for entry in statuses)),
        age_of(pod, now),
        status.get("podIP") or NONE,
        spec_of(pod).get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        NONE,
    ]


def _node_status(node: Json) -> str:
    ready = condition(node, "Ready")
    words = ["Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"]
    if spec_of(node).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: Json) -> str:
    roles = []
    for key, value in labels_of(node).items():
        if key.startswith(_ROLE) and key != _ROLE:
            roles.append(key.removeprefix(_ROLE))
        elif key == "kubernetes.io/role" and value:
            roles.append(value)
    return ",".join(sorted(roles)) or NONE


def _address(node: Json, kind: str) -> str:
    addresses = status_of(node).get("addresses") or ()
    return next((str(entry["address"]) for entry in addresses if entry["type"] == kind), NONE)


def _node(node: Json, now: float) -> list[Any]:
    info = status_of(node).get("nodeInfo") or {}
    return [
        name_of(node),
        _node_status(node),
        _node_roles(node),
        age_of(node, now),
        info.get("kubeletVersion", ""),
        _address(node, "InternalIP"),
        _address(node, "ExternalIP"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


POD_PRINTERS = {
    "pods": Printer(
        ("Name", "Ready", "Status", "Restarts", "Age", "+IP", "+Node", "+Nominated Node", "+Readiness Gates"), _pod
    ),
    "nodes": Printer(
        (
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ),
        _node,
    ),
}
