"""Scale, binding and eviction."""

from __future__ import annotations

from typing import Any

import orjson

from services.simulator.core.decoding import decode_object
from services.simulator.core.deleting import delete
from services.simulator.core.errors import (
    ApiError,
    bad_request,
    internal,
    invalid,
    invalid_value,
    no_such_path,
    required,
    too_many_requests,
)
from services.simulator.core.identity import Target
from services.simulator.core.meta import Json, condition_true, is_deleting, labels_of, set_conditions, timestamp
from services.simulator.core.options import DeleteOptions, WriteOptions, Written
from services.simulator.core.patching import patched_copy
from services.simulator.core.reading import get_item
from services.simulator.core.resources import Resource
from services.simulator.core.selectors import format_selector, label_selector
from services.simulator.core.state import NODES, ClusterState
from services.simulator.core.store import Item
from services.simulator.core.writing import commit_update
from services.simulator.schemas.builtin import builtin_types

PDBS = "poddisruptionbudgets.policy"
SCALE = Resource(
    "autoscaling", "v1", "Scale", "scales", "scale", namespaced=True, schema=builtin_types().type("V1Scale")
)


def _dig(obj: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


def _plant(obj: Json, path: str, value: Any) -> Json:
    parts = [part for part in path.split(".") if part]
    node = obj
    for part in parts[:-1]:
        node = node.setdefault(part, {})
    node[parts[-1]] = value
    return obj


def scale_of(resource: Resource, obj: Json) -> Json:
    """The `autoscaling/v1` Scale of an object."""
    if resource.scale is None:
        raise no_such_path()
    selector = _dig(obj, resource.scale.label_selector) if resource.scale.label_selector else ""
    if isinstance(selector, dict):
        selector = format_selector(
            selector if {"matchLabels", "matchExpressions"} & selector.keys() else {"matchLabels": selector}
        )
    meta = obj["metadata"]
    status: Json = {"replicas": _dig(obj, resource.scale.status_replicas) or 0}
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            name: meta[name]
            for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if name in meta
        },
        "spec": {"replicas": replicas} if (replicas := _dig(obj, resource.scale.spec_replicas)) else {},
        "status": status,
    }


def update_scale(
    state: ClusterState, target: Target, content_type: str | None, body: Any, options: WriteOptions
) -> Json:
    """Replaces (no content type) or patches the scale of an object; answers the new scale."""
    resource = target.resource
    item = get_item(state, resource, target.namespace, target.name)
    scale = scale_of(resource, item.object)
    assert resource.scale is not None
    if content_type is not None:
        body = patched_copy(SCALE, orjson.dumps(scale), content_type, body)
    wanted, _ = decode_object(SCALE, body, "Ignore")
    replicas = wanted.get("spec", {}).get("replicas", 0)
    if replicas < 0:
        raise invalid(
            SCALE, target.name, [invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")]
        )
    obj = _plant(orjson.loads(item.raw), resource.scale.spec_replicas, replicas)
    version = wanted["metadata"].get("resourceVersion")
    if version:
        obj["metadata"]["resourceVersion"] = version
    inner = Target(resource, target.namespace, target.name, "scale")
    return scale_of(resource, commit_update(state, inner, item, obj, options).item.object)


def bind(state: ClusterState, resource: Resource, namespace: str, name: str, node: str) -> Item:
    """Assigns a pod to a node, once.

    Raises:
        ApiError: 409 if the pod has a node already or is being deleted, 404 if there is no such pod.
    """
    item = get_item(state, resource, namespace, name)
    pod = item.object
    if is_deleting(pod):
        raise _unbindable(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if pod["spec"].get("nodeName"):
        why = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
        raise _unbindable(name, why)
    if pod["spec"].get("schedulingGates"):
        raise _unbindable(name, f"pod {name} has non-empty .spec.schedulingGates")
    scheduled = {"type": "PodScheduled", "status": "True"}
    conditions = set_conditions(
        [entry for entry in pod["status"].get("conditions") or () if entry["type"] != "PodScheduled"],
        [scheduled],
        state.now,
    )
    status = {**pod["status"], "conditions": conditions}
    status.pop("nominatedNodeName", None)
    return state.store.replace(resource.storage, {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status})


def _unbindable(name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on pods/binding "{name}": {why}'
    return ApiError(409, "Conflict", message, {"name": name, "kind": "pods/binding"})


def create_binding(state: ClusterState, target: Target, body: Any, options: WriteOptions) -> None:
    node = _dig(body, "target.name")
    if _dig(body, "metadata.name") not in (None, "", target.name):
        raise bad_request("name in URL does not match name in Binding object")
    if not node:
        raise internal("target.name: Required value")
    kind = _dig(body, "target.kind")
    if kind not in (None, "", "Node"):
        binding = Resource("", "v1", "Binding", "bindings", "binding", namespaced=True)
        raise invalid(binding, target.name, [required("target.kind")])
    if not options.dry_run:
        bind(state, target.resource, target.namespace, target.name, str(node))


def is_healthy(pod: Json) -> bool:
    return not is_deleting(pod) and condition_true(pod, "Ready")


def evict(state: ClusterState, target: Target, body: Any, options: WriteOptions) -> None:
    """Deletes a pod unless a disruption budget forbids it.

    Raises:
        ApiError: 429 while a budget has no disruption left, 500 if several budgets match.
    """
    pod = get_item(state, target.resource, target.namespace, target.name).object
    given = body.get("deleteOptions") or {}
    preconditions = given.get("preconditions") or {}
    delete_options = DeleteOptions(
        dry_run=options.dry_run or bool(given.get("dryRun")),
        grace_seconds=given.get("gracePeriodSeconds"),
        propagation=given.get("propagationPolicy"),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
    )
    finished = pod["status"].get("phase") in {"Succeeded", "Failed", "Pending"}
    if not finished and not is_deleting(pod):
        _spend_budget(state, pod, dry_run=delete_options.dry_run)
    delete(state, target, delete_options)


def _spend_budget(state: ClusterState, pod: Json, *, dry_run: bool) -> None:
    budgets = [
        item.object
        for item in state.items(PDBS, pod["metadata"]["namespace"])
        if label_selector(item.object["spec"].get("selector"))(labels_of(pod))
    ]
    if not budgets:
        return
    if len(budgets) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiError(500, "InternalError", message)
    budget = budgets[0]
    status = budget.get("status") or {}
    if not is_healthy(pod) and status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0:
        return
    allowed = status.get("disruptionsAllowed", 0)
    if allowed <= 0:
        name = budget["metadata"]["name"]
        detail = (
            f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods and has "
            f"{status.get('currentHealthy', 0)} currently"
        )
        raise too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            0,
            {"reason": "DisruptionBudget", "message": detail},
        )
    if not dry_run:
        disrupted = {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: timestamp(state.now)}
        changed = {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": disrupted}
        state.store.replace(PDBS, {**budget, "status": changed})


def node_exists(state: ClusterState, name: str) -> bool:
    return state.find(NODES, "", name) is not None


def written_scale(scale: Json) -> Written:
    return Written(Item(scale, int(scale["metadata"]["resourceVersion"])))
