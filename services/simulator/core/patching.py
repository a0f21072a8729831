"""Patches of every kind, server-side apply among them: from a live object and a patch to the write pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from services.simulator.core import apply as ssa
from services.simulator.core.decoding import check_body, decode_object
from services.simulator.core.errors import (
    ApiError,
    apply_conflict,
    bad_request,
    internal,
    invalid_value,
    not_found,
)
from services.simulator.core.identity import Target, check_name
from services.simulator.core.meta import Json
from services.simulator.core.options import WriteOptions, Written
from services.simulator.core.patches import json_patch, merge_patch, strategic_merge
from services.simulator.core.reading import get_item
from services.simulator.core.resources import Resource
from services.simulator.core.state import ClusterState
from services.simulator.core.writing import commit_update, create_decoded, manager_entry, reset_fields

_Patcher = Callable[[Json, Any, Resource], Json]
_PATCHERS: dict[str, _Patcher] = {
    "application/json-patch+json": lambda obj, body, _: json_patch(obj, body),
    "application/merge-patch+json": lambda obj, body, _: merge_patch(obj, body),
    "application/strategic-merge-patch+json": lambda obj, body, resource: strategic_merge(obj, body, resource.schema),
}


def patch(state: ClusterState, target: Target, content_type: str, body: Any, options: WriteOptions) -> Written:
    """A JSON, merge or strategic merge patch of the live version."""
    resource = target.resource
    live = get_item(state, resource, target.namespace, target.name)
    patched = patched_copy(resource, live.raw, content_type, body)
    obj, warnings = _decode_patched(resource, patched, options)
    check_name(target, obj["metadata"])
    return replace(commit_update(state, target, live, obj, options), warnings=warnings)


def patched_copy(resource: Resource, raw: bytes, content_type: str, body: Any) -> Json:
    if "json-patch" not in content_type and not isinstance(body, dict):
        sent = "array" if isinstance(body, list) else "string"
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {sent} into Go value of type map[string]interface {{}}"
        )
    return _PATCHERS[content_type](orjson.loads(raw), body, resource)


def _decode_patched(resource: Resource, patched: Json, options: WriteOptions) -> tuple[Json, list[str]]:
    """A patch that makes an object undecodable is invalid, not malformed."""
    try:
        return decode_object(resource, patched, options.validation)
    except ApiError as error:
        if error.code != 400 or "strict decoding" in error.message:  # noqa: PLR2004
            raise
        problem = invalid_value("patch", orjson.dumps(patched).decode(), error.message)
        cause = {"reason": problem.reason, "message": problem.message(), "field": "patch"}
        message = f' "" is invalid: patch: {problem.message()}'
        raise ApiError(422, "Invalid", message, {"causes": [cause]}) from error


def apply(state: ClusterState, target: Target, body: Any, options: WriteOptions) -> Written:
    """Server-side apply: creates the object if it is not there (except through a subresource)."""
    resource = target.resource
    body = check_body(body, resource.kind)
    if not body.get("apiVersion") or not body.get("kind"):
        raise bad_request(f"invalid object type: /, Kind={body.get('kind', '')}")
    obj, warnings = decode_object(resource, body, options.validation)
    check_name(target, obj["metadata"])
    if obj["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if warnings and not resource.custom:
        path = warnings[0].partition('"')[2].rstrip('"')
        where = f"{obj['metadata'].get('namespace', '')}/{target.name}; {resource.group}/{resource.version}"
        why = f".{path}: field not declared in schema"
        raise internal(f"failed to create typed patch object ({where}, Kind={resource.kind}): {why}")
    config = _applied_config(resource, orjson.loads(orjson.dumps(obj)), body)
    item = state.store.collection(resource.storage).get(target.namespace, target.name)
    if item is None:
        if target.subresource:
            raise not_found(resource, target.name)
        return create_decoded(state, target, obj, options, warnings, applied=config)
    manager = manager_entry(state, resource, options, "Apply", target.subresource)
    try:
        applied = ssa.apply(
            orjson.loads(item.raw),
            config,
            resource.schema,
            manager,
            force=options.force,
            reset=reset_fields(resource, target.subresource),
        )
    except ssa.Conflict as found:
        raise apply_conflict(found.causes()) from found
    written = commit_update(state, target, item, applied.object, options, applied.managers)
    return replace(written, warnings=warnings)


def _applied_config(resource: Resource, obj: Json, body: Json) -> Json:
    """What the client sent, decoded, but without the defaults that decoding a custom resource adds."""
    if not resource.custom:
        return obj

    def restrict(value: Any, sent: Any) -> Any:
        if isinstance(value, dict) and isinstance(sent, dict):
            return {name: restrict(inner, sent[name]) for name, inner in value.items() if name in sent}
        if isinstance(value, list) and isinstance(sent, list) and len(value) == len(sent):
            return [restrict(inner, other) for inner, other in zip(value, sent, strict=True)]
        return value

    restricted: Json = restrict(obj, body)
    return restricted
