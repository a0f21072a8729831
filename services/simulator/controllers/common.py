"""What several controllers need: pods from templates, owners, events, readiness."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.simulator.core.deleting import delete
from services.simulator.core.errors import ApiError
from services.simulator.core.identity import Target, free_name
from services.simulator.core.meta import (
    Json,
    Key,
    condition,
    controller_of,
    is_deleting,
    owner_reference,
    parse_timestamp,
    timestamp,
)
from services.simulator.core.options import DeleteOptions
from services.simulator.core.pod_defaults import admit_pod
from services.simulator.core.state import PODS, ClusterState
from services.simulator.core.store import Event, Item

DEPLOYMENTS = "deployments.apps"
REPLICA_SETS = "replicasets.apps"
STATEFUL_SETS = "statefulsets.apps"
DAEMON_SETS = "daemonsets.apps"
JOBS = "jobs.batch"
HASH_LABEL = "pod-template-hash"
_FINISHED = frozenset({"Succeeded", "Failed"})


def owner_key(event: Event, kind: str, group: str) -> Iterable[Key]:
    """The controller of a kind that owns the object of an event, before or after."""
    keys = set()
    for item in (event.item, event.previous):
        if item is None:
            continue
        owner = controller_of(item.object)
        if owner and owner["kind"] == kind and owner["apiVersion"].partition("/")[0] == group:
            keys.add((item.object["metadata"]["namespace"], owner["name"]))
    return keys


def owned(state: ClusterState, owner: Json, storage: str) -> list[Json]:
    """The objects of a collection that an owner controls, oldest first."""
    collection = state.store.collection(storage)
    uid = owner["metadata"]["uid"]
    found = []
    for name, key in state.store.dependents(uid):
        if name != storage:
            continue
        obj = collection.items[key].object
        controller = controller_of(obj)
        if controller is not None and controller["uid"] == uid:
            found.append(obj)
    return found


class Templates:
    """Admitted pod specs, so that the pods of one template share one structure. Bounded."""

    def __init__(self, limit: int = 2048) -> None:
        self._specs: dict[tuple[str, str], tuple[Json, Json]] = {}
        self._limit = limit

    def admitted(self, owner: Json, template: Json, variant: str = "") -> Json:
        key = (owner["metadata"]["uid"], variant)
        known = self._specs.get(key)
        if known is not None and known[0] is template:
            return known[1]
        if len(self._specs) >= self._limit:
            self._specs.clear()
        admitted = admit_pod({"spec": template["spec"]})
        self._specs[key] = (template, admitted)
        return admitted


def new_pod(
    state: ClusterState, owner: Json, template: Json, admitted: Json, *, name: str = "", prefix: str = "", **meta: Any
) -> Json:
    """A pod of a template, not yet stored; `meta` adds to or replaces parts of the template's metadata."""
    namespace = owner["metadata"]["namespace"]
    if not name:
        name = free_name(state, state.resource("v1", "Pod"), namespace, prefix)
    described: Json = {"name": name}
    if prefix:
        described["generateName"] = prefix
    described |= {
        "namespace": namespace,
        "uid": state.ids.uid(),
        "generation": 1,
        "creationTimestamp": timestamp(state.now),
    }
    given = template.get("metadata") or {}
    for part in ("labels", "annotations", "finalizers"):
        value = meta.get(part) or given.get(part)
        if value:
            described[part] = value
    described["ownerReferences"] = [owner_reference(owner)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": described,
        "spec": admitted["spec"],
        "status": admitted["status"],
    }


def delete_pod(state: ClusterState, pod: Json, grace: int | None = None) -> None:
    meta = pod["metadata"]
    target = Target(state.resource("v1", "Pod"), meta["namespace"], meta["name"])
    try:
        delete(state, target, DeleteOptions(grace_seconds=grace, uid=meta["uid"]))
    except ApiError as error:
        if error.reason not in {"NotFound", "Conflict"}:
            raise


def store_status(state: ClusterState, storage: str, obj: Json, status: Json) -> Item | None:
    """Writes a status if it differs."""
    if obj.get("status") == status:
        return None
    return state.store.replace(storage, {**obj, "status": status})


def is_finished(pod: Json) -> bool:
    return pod.get("status", {}).get("phase") in _FINISHED


def is_active(pod: Json) -> bool:
    return not is_finished(pod) and not is_deleting(pod)


def ready_since(pod: Json) -> float | None:
    """When the pod became ready; None if it is not."""
    ready = condition(pod, "Ready")
    if ready is None or ready["status"] != "True":
        return None
    return parse_timestamp(ready["lastTransitionTime"]) if "lastTransitionTime" in ready else 0.0


def is_available(pod: Json, min_ready_seconds: int, now: float) -> bool:
    since = ready_since(pod)
    return since is not None and (not min_ready_seconds or now >= since + min_ready_seconds)


def pods_of_node(state: ClusterState, node: str) -> list[Json]:
    return [item.object for item in state.store.collection(PODS).indexed("spec.nodeName", node)]


def round_percentage(value: Any, total: int, *, up: bool) -> int:
    """An integer or a percentage of a total, as rolling updates round it."""
    if isinstance(value, int):
        return value
    percent = int(str(value).removesuffix("%")) * total
    return -(-percent // 100) if up else percent // 100
