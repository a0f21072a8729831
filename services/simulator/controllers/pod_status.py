"""The status that a kubelet reports for a pod. Source: k8s.io/kubernetes/pkg/kubelet/status/generate.go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.simulator.core.ids import stable_hash
from services.simulator.core.meta import Json, condition, set_conditions, timestamp

_COMPLETED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Phase:
    """Where a pod is. `waiting` is a container's reason, `exit_code` that of its last end."""

    name: str
    ready: bool = True
    waiting: str = ""
    restarts: int = 0
    exit_code: int | None = None

    @property
    def is_ready(self) -> bool:
        return self.name == "Running" and self.ready and not self.waiting


def pod_status(pod: Json, phase: Phase | None, node: Json | None, now: float) -> Json:
    """The whole status of a pod that is in a phase (None keeps the phase)."""
    before: Json = pod["status"]
    if phase is None:
        return before
    status: Json = {**before, "phase": phase.name, "observedGeneration": pod["metadata"].get("generation", 1)}
    status.setdefault("startTime", timestamp(now))
    if node is not None:
        address = _address(node)
        status |= {"hostIP": address, "hostIPs": [{"ip": address}]}
        if phase.name == "Running" and "podIP" not in status:
            own = address if pod["spec"].get("hostNetwork") else _pod_address(pod, node)
            status |= {"podIP": own, "podIPs": [{"ip": own}]}
    status["conditions"] = _conditions(pod, phase, now)
    status["containerStatuses"] = [_container(pod, container, phase, now) for container in pod["spec"]["containers"]]
    return status


def _address(node: Json) -> str:
    addresses = node.get("status", {}).get("addresses") or ()
    return next((str(entry["address"]) for entry in addresses if entry["type"] == "InternalIP"), "127.0.0.1")


def _pod_address(pod: Json, node: Json) -> str:
    """An address in the node's subnet. Derived from the pod's uid: two pods may rarely share one."""
    subnet = str(node.get("spec", {}).get("podCIDR", "10.200.0.0/24"))
    last = int(pod["metadata"]["uid"][:8], 16) % 253 + 2
    return f"{subnet.rpartition('.')[0]}.{last}"


def _conditions(pod: Json, phase: Phase, now: float) -> list[Json]:
    names = ",".join(container["name"] for container in pod["spec"]["containers"])
    ready: Json = {"status": "True" if phase.is_ready else "False"}
    if phase.name in _COMPLETED:
        ready["reason"] = "PodCompleted" if phase.name == "Succeeded" else "PodFailed"
    elif not phase.is_ready:
        ready |= {"reason": "ContainersNotReady", "message": f"containers with unready status: [{names}]"}
    initialized: Json = {"status": "True"}
    changes = [
        {"type": "PodReadyToStartContainers", "status": "True" if phase.name == "Running" else "False"},
        {"type": "Initialized", **initialized},
        {"type": "Ready", **ready},
        {"type": "ContainersReady", **ready},
    ]
    existing = pod["status"].get("conditions") or ()
    if condition(pod, "PodScheduled") is None:
        changes.append({"type": "PodScheduled", "status": "True"})
    return set_conditions(existing, changes, now)


def _container(pod: Json, container: Json, phase: Phase, now: float) -> Json:
    name, image = container["name"], container.get("image", "")
    previous = _previous(pod, name)
    state, last = _state(phase, previous, now)
    entry: Json = {
        "name": name,
        "state": state,
        "lastState": last,
        "ready": phase.is_ready,
        "restartCount": phase.restarts,
        "image": image,
        "imageID": "",
        "started": phase.name == "Running" and not phase.waiting,
    }
    if phase.name != "Pending":
        digest = stable_hash(image.encode(), 32)
        entry["imageID"] = f"{image.partition('@')[0]}@simulated:{digest}"
        entry["containerID"] = f"simulated://{stable_hash((pod['metadata']['uid'] + name).encode(), 32)}"
    return entry


def _previous(pod: Json, name: str) -> Json:
    for entry in pod["status"].get("containerStatuses") or ():
        if entry["name"] == name:
            return dict(entry)
    return {}


def _state(phase: Phase, previous: Json, now: float) -> tuple[Json, Json]:
    """(state, lastState) of a container."""
    was: Any = previous.get("state", {})
    last: Json = previous.get("lastState", {})
    started = was.get("running", {}).get("startedAt", timestamp(now))
    ended: Json = {}
    if phase.exit_code is not None:
        ended = {
            "terminated": {
                "exitCode": phase.exit_code,
                "reason": "Error" if phase.exit_code else "Completed",
                "startedAt": started,
                "finishedAt": timestamp(now),
            }
        }
    if phase.waiting:
        message = {"message": "back-off restarting failed container"} if "CrashLoop" in phase.waiting else {}
        return {"waiting": {"reason": phase.waiting, **message}}, ended or last
    if phase.name in _COMPLETED:
        return ended or {
            "terminated": {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": timestamp(now)}
        }, last
    running = was.get("running") if phase.restarts == previous.get("restartCount") else None
    return {"running": running or {"startedAt": timestamp(now)}}, last
