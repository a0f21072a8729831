"""Delete: at once, after a grace period, or when the last finalizer is gone.

Source: k8s.io/apiserver/pkg/registry/rest/delete.go and registry/generic/registry/store.go.
"""

from __future__ import annotations

from services.simulator.core.crds import CLEANUP, CRD
from services.simulator.core.errors import ApiError
from services.simulator.core.identity import Target, has_generation
from services.simulator.core.meta import Json, is_deleting, timestamp, with_meta, with_status
from services.simulator.core.options import Deleted, DeleteOptions
from services.simulator.core.reading import Filter, get_item
from services.simulator.core.resources import Resource
from services.simulator.core.state import NAMESPACES, PODS, ClusterState
from services.simulator.core.store import Item

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_DEFAULT_GRACE = 30
_FINISHED = frozenset({"Succeeded", "Failed"})
_ANSWERED_WITH_OBJECT = frozenset(
    {
        "namespaces",
        "pods",
        "services",
        "serviceaccounts",
        "persistentvolumes",
        "persistentvolumeclaims",
        "podtemplates",
        "resourcequotas",
        "storageclasses.storage.k8s.io",
        "csidrivers.storage.k8s.io",
        "csinodes.storage.k8s.io",
        "volumeattachments.storage.k8s.io",
    }
)
"""Kinds whose deletion is answered with the object even when it is gone at once (`ReturnDeletedObject`)."""
_PROTECTED_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


def delete(state: ClusterState, target: Target, options: DeleteOptions) -> Deleted:
    resource = target.resource
    item = get_item(state, resource, target.namespace, target.name)
    _check(resource, item, options)
    obj = _mark(resource, item.object, options, state.now)
    if _may_go(resource, obj):
        if not options.dry_run:
            state.store.remove(resource.storage, (target.namespace, target.name))
        return Deleted(obj, gone=resource.storage not in _ANSWERED_WITH_OBJECT)
    if obj == item.object:
        return Deleted(item.object, gone=False)
    if not options.dry_run:
        obj = state.store.replace(resource.storage, obj).object
    return Deleted(obj, gone=False)


def _check(resource: Resource, item: Item, options: DeleteOptions) -> None:
    meta = item.object["metadata"]
    if options.uid and options.uid != meta["uid"]:
        raise _precondition(resource, meta, "UID", options.uid, meta["uid"])
    if options.resource_version and options.resource_version != meta["resourceVersion"]:
        raise _precondition(resource, meta, "ResourceVersion", options.resource_version, meta["resourceVersion"])
    if resource.storage == NAMESPACES and meta["name"] in _PROTECTED_NAMESPACES:
        message = f'namespaces "{meta["name"]}" is forbidden: this namespace may not be deleted'
        raise ApiError(403, "Forbidden", message, {"name": meta["name"], "kind": "namespaces"})


def _precondition(resource: Resource, meta: Json, what: str, wanted: str, actual: str) -> ApiError:
    name = meta["name"]
    message = (
        f'Operation cannot be fulfilled on {resource.kind} "{name}": the {what} in the precondition ({wanted}) does '
        f"not match the {what} in record ({actual}). The object might have been deleted and then recreated"
    )
    details: Json = {"name": name, "kind": resource.kind}
    if resource.group:
        details["group"] = resource.group
    return ApiError(409, "Conflict", message, details)


def _finalizers(resource: Resource, obj: Json, options: DeleteOptions) -> list[str]:
    """The object's finalizers with those that its kind and the propagation policy ask for."""
    finalizers = list(obj["metadata"].get("finalizers") or ())
    if resource.storage == CRD and CLEANUP not in finalizers:
        finalizers.append(CLEANUP)
    policy = "Orphan" if options.orphan else options.propagation
    if policy is None:
        return finalizers
    kept = [name for name in finalizers if name not in {FOREGROUND, ORPHAN}]
    if policy == "Foreground":
        kept.append(FOREGROUND)
    elif policy == "Orphan":
        kept.append(ORPHAN)
    return kept


def _grace(resource: Resource, obj: Json, options: DeleteOptions) -> int:
    if resource.storage != PODS:
        return 0
    if not obj["spec"].get("nodeName") or obj.get("status", {}).get("phase") in _FINISHED:
        return 0
    if options.grace_seconds is not None:
        return max(options.grace_seconds, 0)
    return int(obj["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE))


def _mark(resource: Resource, obj: Json, options: DeleteOptions, now: float) -> Json:
    """The object with its deletion time, unless it can go at once."""
    meta = obj["metadata"]
    finalizers, grace = _finalizers(resource, obj, options), _grace(resource, obj, options)
    if is_deleting(obj):
        earlier = options.grace_seconds is not None and grace < meta.get("deletionGracePeriodSeconds", 0)
        if earlier:
            obj = with_meta(obj, deletionTimestamp=timestamp(now + grace), deletionGracePeriodSeconds=grace)
        return obj
    changes: Json = {
        "deletionTimestamp": timestamp(now + grace),
        "deletionGracePeriodSeconds": grace,
        "finalizers": finalizers or None,
    }
    if has_generation(resource) and "generation" in meta:
        changes["generation"] = meta["generation"] + 1
    marked = with_meta(obj, **changes)
    if resource.storage == NAMESPACES:
        marked = with_status(marked, phase="Terminating")
    return marked


def _may_go(resource: Resource, obj: Json) -> bool:
    meta = obj["metadata"]
    if meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return False
    return resource.storage != NAMESPACES or not (obj.get("spec") or {}).get("finalizers")


def delete_collection(state: ClusterState, resource: Resource, wanted: Filter, options: DeleteOptions) -> list[Item]:
    """Deletes everything that matches; answers the list of what was there."""
    items = [
        item for item in state.store.collection(resource.storage).in_namespace(wanted.namespace) if wanted.matches(item)
    ]
    for item in items:
        meta = item.object["metadata"]
        delete(state, Target(resource, meta.get("namespace", ""), meta["name"]), options)
    return items
