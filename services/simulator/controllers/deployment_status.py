"""The status of a deployment: counts, and the conditions that `kubectl rollout status` and `wait` read.

Source: k8s.io/kubernetes/pkg/controller/deployment/{sync,progress}.go.
"""

from __future__ import annotations

from services.simulator.core.meta import Json, condition, parse_timestamp, set_conditions, timestamp

_MINIMUM = "Deployment has minimum availability."
_NO_MINIMUM = "Deployment does not have minimum availability."


def deployment_status(
    deployment: Json, new: Json | None, sets: list[Json], unavailable_limit: int, now: float
) -> tuple[Json, float | None]:
    """The status, and the seconds until the progress deadline if it runs."""

    def total(name: str) -> int:
        return sum(entry.get("status", {}).get(name, 0) for entry in sets)

    before = deployment.get("status") or {}
    replicas, available = total("replicas"), total("availableReplicas")
    updated = (new or {}).get("status", {}).get("replicas", 0)
    desired = sum(entry["spec"]["replicas"] for entry in sets)
    status: Json = {"observedGeneration": deployment["metadata"]["generation"]}
    counts = {
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(desired - available, 0),
    }
    status |= {name: count for name, count in counts.items() if count}
    changes = [_availability(deployment, available, unavailable_limit, now)]
    progress, wait = _progress(deployment, new, counts, before, now)
    if progress is not None:
        changes.append(progress)
    status["conditions"] = set_conditions(before.get("conditions") or (), changes, now)
    return status, wait


def _availability(deployment: Json, available: int, unavailable_limit: int, now: float) -> Json:
    enough = available >= deployment["spec"]["replicas"] - unavailable_limit
    last = condition(deployment, "Available")
    same = last is not None and (last["status"] == "True") is enough
    return {
        "type": "Available",
        "status": "True" if enough else "False",
        "lastUpdateTime": last["lastUpdateTime"] if same and last is not None else timestamp(now),
        "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        "message": _MINIMUM if enough else _NO_MINIMUM,
    }


def _progress(
    deployment: Json, new: Json | None, counts: dict[str, int], before: Json, now: float
) -> tuple[Json | None, float | None]:
    replicas = deployment["spec"]["replicas"]
    name = new["metadata"]["name"] if new else ""
    complete = (
        counts["updatedReplicas"] == replicas
        and counts["replicas"] == replicas
        and counts["availableReplicas"] == replicas
    )
    last = condition(deployment, "Progressing")

    def entry(status: str, reason: str, message: str) -> Json:
        known = last is not None and (last["status"], last.get("reason"), last.get("message")) == (
            status,
            reason,
            message,
        )
        since = last["lastUpdateTime"] if known and last is not None else timestamp(now)
        return {
            "type": "Progressing",
            "status": status,
            "lastUpdateTime": since,
            "reason": reason,
            "message": message,
        }

    if deployment["spec"].get("paused"):
        return entry("Unknown", "DeploymentPaused", "Deployment is paused"), None
    if complete:
        message = f'ReplicaSet "{name}" has successfully progressed.'
        return entry("True", "NewReplicaSetAvailable", message), None
    progressing = any(
        counts[part] > before.get(part, 0) for part in ("updatedReplicas", "readyReplicas", "availableReplicas")
    ) or counts["replicas"] - counts["updatedReplicas"] < before.get("replicas", 0) - before.get("updatedReplicas", 0)
    deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
    message = f'ReplicaSet "{name}" is progressing.'
    if progressing or last is None or before.get("observedGeneration") != deployment["metadata"]["generation"]:
        return {**entry("True", "ReplicaSetUpdated", message), "lastUpdateTime": timestamp(now)}, float(deadline) + 1
    if last.get("reason") in {"NewReplicaSetAvailable", "ProgressDeadlineExceeded"}:
        return None, None
    left = parse_timestamp(last["lastUpdateTime"]) + deadline - now
    if left > 0:
        return entry("True", "ReplicaSetUpdated", message), left + 1
    return entry("False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.'), None
