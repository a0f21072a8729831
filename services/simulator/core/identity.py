"""The identity of objects: names, uids, generations, and which metadata belongs to the server alone."""

from __future__ import annotations

from dataclasses import dataclass

from services.simulator.core.errors import already_exists, bad_request, internal
from services.simulator.core.meta import Json, timestamp
from services.simulator.core.resources import Resource
from services.simulator.core.state import ClusterState

_NAME_TRIES = 8
_MAX_GENERATED_BASE = 58
_WITHOUT_GENERATION = frozenset(
    {
        "namespaces",
        "nodes",
        "services",
        "configmaps",
        "secrets",
        "serviceaccounts",
        "events",
        "persistentvolumeclaims",
        "persistentvolumes",
        "endpoints",
        "limitranges",
        "resourcequotas",
        "leases.coordination.k8s.io",
        "controllerrevisions.apps",
    }
)
SYSTEM_FIELDS = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generateName",
    "managedFields",
)
_SYSTEM_ONLY = ("selfLink", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields")
_META_ORDER = ("name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a write goes."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def has_generation(resource: Resource) -> bool:
    return resource.storage not in _WITHOUT_GENERATION and resource.group != "rbac.authorization.k8s.io"


def ordered(meta: Json) -> Json:
    first = {name: meta[name] for name in _META_ORDER if name in meta}
    return first | {name: value for name, value in meta.items() if name not in first and value not in ({}, [], None)}


def settle_identity(state: ClusterState, target: Target, obj: Json) -> None:
    resource, meta = target.resource, obj["metadata"]
    if meta.get("resourceVersion"):
        raise internal("resourceVersion should not be set on objects to be created")
    for name in _SYSTEM_ONLY:
        meta.pop(name, None)
    given = meta.get("namespace", "")
    if resource.namespaced:
        if given and given != target.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        meta["namespace"] = target.namespace
    else:
        meta.pop("namespace", None)
    if target.name:
        check_name(target, meta)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = free_name(state, resource, target.namespace, meta["generateName"])
    meta.setdefault("name", target.name)
    meta["uid"] = state.ids.uid()
    meta["creationTimestamp"] = timestamp(state.now)
    if has_generation(resource):
        meta["generation"] = 1
    else:
        meta.pop("generation", None)


def free_name(state: ClusterState, resource: Resource, namespace: str, prefix: str) -> str:
    collection = state.store.collection(resource.storage)
    for _ in range(_NAME_TRIES):
        name = prefix[:_MAX_GENERATED_BASE] + state.ids.suffix()
        if collection.get(namespace, name) is None:
            return name
    raise already_exists(resource, prefix)


def check_name(target: Target, meta: Json) -> None:
    if meta.get("name", target.name) != target.name:
        given = meta["name"]
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({target.name})")
