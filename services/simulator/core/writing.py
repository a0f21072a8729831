"""Create and update: one pipeline from decoded object to stored version, which patches go through as well.

Invariants:
- Name, namespace, uid and creation time never change; `generation` grows when what is desired changes.
- A status is written only through the status subresource, everything else only outside of it.
- A write that changes nothing stores nothing: the resource version stays.
- A version that the client names must be the current one, or the write is a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from services.simulator.core import apply as ssa
from services.simulator.core.constraints import validate
from services.simulator.core.crds import CRD, established
from services.simulator.core.decoding import decode_object
from services.simulator.core.defaults import apply_kind_defaults
from services.simulator.core.errors import (
    ApiError,
    FieldError,
    already_exists,
    conflict,
    forbidden,
    invalid,
    invalid_value,
    not_found,
)
from services.simulator.core.identity import SYSTEM_FIELDS, Target, check_name, has_generation, ordered, settle_identity
from services.simulator.core.meta import Json, is_deleting, timestamp
from services.simulator.core.names import validate_metadata, validate_metadata_update
from services.simulator.core.options import WriteOptions, Written
from services.simulator.core.preparing import prepare_kind
from services.simulator.core.reading import get_item
from services.simulator.core.resources import Resource
from services.simulator.core.rules import validate_kind, validate_kind_update
from services.simulator.core.state import NAMESPACES, ClusterState
from services.simulator.core.store import Item
from services.simulator.core.validation_rules import UNCHECKED, check_rules

STATUS = "status"
_STATUS_PATH = (("f:status",),)
# A kubelet registers its node together with the status, so there creation keeps it.
_NODES = "nodes"


def create(state: ClusterState, target: Target, body: Any, options: WriteOptions) -> Written:
    obj, warnings = decode_object(target.resource, body, options.validation)
    return create_decoded(state, target, obj, options, warnings)


def create_decoded(
    state: ClusterState,
    target: Target,
    obj: Json,
    options: WriteOptions,
    warnings: list[str],
    applied: Json | None = None,
) -> Written:
    """`applied` is what an apply owns; a plain create owns everything, defaults included."""
    resource = target.resource
    settle_identity(state, target, obj)
    check_namespace(state, target, obj["metadata"]["name"])
    if resource.status and resource.storage != _NODES:
        obj.pop("status", None)
    apply_kind_defaults(resource.storage, obj)
    name, reset = obj["metadata"]["name"], reset_fields(resource, "")
    manager = manager_entry(state, resource, options, "Apply" if applied else "Update", "")
    if applied is None:
        managers = ssa.track_update(None, obj, resource.schema, manager, reset)
    else:
        managers = ssa.track_creation(applied, resource.schema, manager, reset)
    prepare_kind(resource.storage, obj, state.next_service_address)
    _refuse(resource, name, _problems(resource, obj))
    meta = ordered({**obj["metadata"], "managedFields": ssa.write_managers(managers)})
    stored = _before_storing(state, resource, {**obj, "metadata": meta})
    if state.store.collection(resource.storage).get(target.namespace, name) is not None:
        raise already_exists(resource, name)
    if options.dry_run:
        return Written(Item(stored, state.store.version), created=True, warnings=warnings)
    return Written(state.store.insert(resource.storage, stored), created=True, warnings=warnings)


def check_namespace(state: ClusterState, target: Target, name: str) -> None:
    if not target.resource.namespaced:
        return
    namespace = state.find(NAMESPACES, "", target.namespace)
    if namespace is None:
        resource = state.registry.find("", "v1", NAMESPACES)
        assert resource is not None
        raise not_found(resource, target.namespace)
    if is_deleting(namespace):
        why = f"unable to create new content in namespace {target.namespace} because it is being terminated"
        error = forbidden(target.resource, name, why)
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {target.namespace} is being terminated",
            "field": "metadata.namespace",
        }
        raise ApiError(error.code, error.reason, error.message, {**(error.details or {}), "causes": [cause]})


def _problems(resource: Resource, obj: Json, old: Json | None = None) -> list[FieldError]:
    problems = list(validate_metadata(resource, obj["metadata"]))
    # What components write into the status of built-in types is not validated against what people must write.
    checked = obj if resource.custom else _without_status(obj)
    problems += validate(checked, resource.schema, custom=resource.custom)
    problems += validate_kind(resource.storage, obj)
    if resource.schema.custom_rules:
        problems += [UNCHECKED] if problems else check_rules(obj, old, resource.schema)
    return problems


def _refuse(resource: Resource, name: str, problems: Iterable[FieldError]) -> None:
    unique = list({(problem.field, problem.message()): problem for problem in problems}.values())
    if unique:
        raise invalid(resource, name, unique)


def _before_storing(state: ClusterState, resource: Resource, obj: Json) -> Json:
    if resource.storage == CRD:
        return established(obj, state.now)
    return obj


def manager_entry(
    state: ClusterState, resource: Resource, options: WriteOptions, operation: str, subresource: str
) -> ssa.Manager:
    return ssa.Manager(options.manager, operation, resource.api_version, subresource, timestamp(state.now), frozenset())


def reset_fields(resource: Resource, subresource: str) -> tuple[tuple[str, ...], ...]:
    """The fields that an endpoint does not write and a client therefore does not own there."""
    if subresource == STATUS:
        return ("f:spec",), ("f:metadata",)
    return _STATUS_PATH if resource.status else ()


def update(state: ClusterState, target: Target, body: Any, options: WriteOptions) -> Written:
    """Replaces an object, or with the subresource `status` its status."""
    resource = target.resource
    obj, warnings = decode_object(resource, body, options.validation)
    live = get_item(state, resource, target.namespace, target.name)
    meta = obj["metadata"]
    check_name(target, meta)
    if resource.custom and not meta.get("resourceVersion"):
        problem = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid(resource, target.name, [problem])
    written = commit_update(state, target, live, obj, options)
    return replace(written, warnings=warnings)


def _check_preconditions(resource: Resource, live: Item, meta: Json) -> None:
    name, current = live.object["metadata"]["name"], live.object["metadata"]
    if meta.get("uid") and meta["uid"] != current["uid"]:
        namespace = f"{current['namespace']}/" if "namespace" in current else ""
        why = (
            f"StorageError: invalid object, Code: 4, Key: /registry/{resource.plural}/{namespace}{name}, "
            f"ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {meta['uid']}, "
            f"UID in object meta: {current['uid']}"
        )
        raise conflict(resource, name, why)
    if meta.get("resourceVersion") and meta["resourceVersion"] != current["resourceVersion"]:
        raise conflict(resource, name)


def commit_update(
    state: ClusterState,
    target: Target,
    live: Item,
    obj: Json,
    options: WriteOptions,
    managers: list[ssa.Manager] | None = None,
) -> Written:
    """Stores a decoded object over its live version. `managers` are given by apply, else found by comparing."""
    resource, old = target.resource, live.object
    _check_preconditions(resource, live, obj["metadata"])
    obj = _merge_with_live(resource, target.subresource, old, obj)
    apply_kind_defaults(resource.storage, obj)
    problems = [*_problems(resource, obj, old), *validate_metadata_update(old["metadata"], obj["metadata"])]
    if target.subresource != STATUS:
        problems += validate_kind_update(resource.storage, old, obj)
    _refuse(resource, target.name, problems)
    if managers is None:
        manager = manager_entry(state, resource, options, "Update", target.subresource)
        managers = ssa.track_update(old, obj, resource.schema, manager, reset_fields(resource, target.subresource))
    managed = _settled_managers(old, managers)
    obj = {**obj, "metadata": ordered({**obj["metadata"], "managedFields": managed})}
    if obj == old:
        return Written(live)
    if has_generation(resource) and _desires_differ(resource, old, obj):
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    obj = _before_storing(state, resource, obj)
    if options.dry_run:
        return Written(Item(obj, state.store.version))
    return Written(store_update(state, resource, obj))


def store_update(state: ClusterState, resource: Resource, obj: Json) -> Item:
    """Stores a new version; one that was only waiting for its last finalizer goes instead."""
    meta = obj["metadata"]
    item = state.store.replace(resource.storage, obj)
    if is_deleting(obj) and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds"):
        if resource.storage == NAMESPACES and (obj.get("spec") or {}).get("finalizers"):
            return item
        state.store.remove(resource.storage, (meta.get("namespace", ""), meta["name"]))
    return item


def _merge_with_live(resource: Resource, subresource: str, old: Json, obj: Json) -> Json:
    if subresource == STATUS:
        return {**old, "status": obj.get("status", {})} if "status" in obj else _without_status(old)
    meta = {name: value for name, value in obj["metadata"].items() if name not in SYSTEM_FIELDS}
    meta |= {name: old["metadata"][name] for name in SYSTEM_FIELDS if name in old["metadata"]}
    obj = {**obj, "metadata": meta}
    if resource.status:
        obj = _without_status(obj)
        if "status" in old:
            obj["status"] = old["status"]
    return obj


def _without_status(obj: Json) -> Json:
    return {name: value for name, value in obj.items() if name != "status"}


def _settled_managers(old: Json, managers: list[ssa.Manager]) -> list[Json]:
    """The entries as they are stored: one that owns what it owned keeps its time."""
    before = {entry.identity: entry for entry in ssa.read_managers(old)}
    settled = []
    for manager in managers:
        known = before.get(manager.identity)
        settled.append(known if known is not None and known.fields == manager.fields else manager)
    return ssa.write_managers(settled)


def _desires_differ(resource: Resource, old: Json, new: Json) -> bool:
    ignored = {"metadata", "status"} if resource.status or not resource.custom else {"metadata"}
    names = (old.keys() | new.keys()) - ignored
    if any(old.get(name) != new.get(name) for name in names):
        return True
    if resource.storage != "deployments.apps":
        return False
    return bool(old["metadata"].get("annotations") != new["metadata"].get("annotations"))
