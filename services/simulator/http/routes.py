"""From a URL to what it addresses, and from query parameters to options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.simulator.core.errors import (
    FieldError,
    bad_request,
    forbidden_field,
    invalid_options,
    required,
    unsupported,
)
from services.simulator.core.meta import Json
from services.simulator.core.options import DeleteOptions, WriteOptions
from services.simulator.core.reading import ListOptions, make_filter
from services.simulator.core.resources import Resource

_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_VALIDATIONS = ("", "Ignore", "Strict", "Warn")
_MATCHES = ("Exact", "NotOlderThan", "")
_PROPAGATIONS = ("Foreground", "Background", "Orphan")
APPLY_OPTIONS = "ApplyOptions"
_MAX_MANAGER = 128
_MAX_PARTS = 4


@dataclass(frozen=True, slots=True)
class Route:
    """The parts of a resource URL; `name` is empty for a collection."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_route(path: str) -> Route | None:
    """The route of a path below /api/v1/ or /apis/<group>/<version>/; None if it cannot be one."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:  # noqa: PLR2004
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:  # noqa: PLR2004
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and not (group == "" and rest[2] in _NAMESPACE_SUBRESOURCES):  # noqa: PLR2004
        namespace, rest = rest[1], rest[2:]
    if len(rest) >= _MAX_PARTS:
        return None
    plural, name, subresource = (*rest, "", "")[:3]
    return Route(group, version, plural, namespace, name, subresource)


def is_true(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "") in _TRUE


def write_options(kind: str, query: Mapping[str, str], user_agent: str) -> WriteOptions:
    """`kind` is CreateOptions, UpdateOptions, PatchOptions or, for apply, ApplyOptions.

    Raises:
        ApiError: 422 for values that are not supported.
    """
    manager = query.get("fieldManager", "")
    named = "PatchOptions" if kind == APPLY_OPTIONS else kind
    if len(manager) > _MAX_MANAGER:
        problem = FieldError("FieldValueTooLong", "fieldManager", f"may not be more than {_MAX_MANAGER} bytes", manager)
        raise invalid_options(named, problem)
    if kind == APPLY_OPTIONS and not manager:
        raise invalid_options(named, required("fieldManager", "is required for apply patch"))
    validation = query.get("fieldValidation", "")
    if validation not in _VALIDATIONS:
        raise invalid_options(named, unsupported("fieldValidation", validation, _VALIDATIONS))
    return WriteOptions(
        manager=manager or user_agent.partition("/")[0] or "unknown",
        dry_run=_dry_run(named, query.get("dryRun")),
        force=is_true(query, "force"),
        validation=validation or "Warn",
    )


def _dry_run(kind: str, value: str | None) -> bool:
    if value in (None, ""):
        return False
    if value != "All":
        raise invalid_options(kind, unsupported("dryRun", [value], ("All",)))
    return True


def delete_options(query: Mapping[str, str], body: Json | None) -> DeleteOptions:
    given: dict[str, Any] = body or {}
    preconditions = given.get("preconditions") or {}
    grace = given.get("gracePeriodSeconds")
    if grace is None and query.get("gracePeriodSeconds"):
        grace = whole_number(query["gracePeriodSeconds"])
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy")
    if propagation and propagation not in _PROPAGATIONS:
        allowed = (*_PROPAGATIONS, "nil")
        raise invalid_options("DeleteOptions", unsupported("propagationPolicy", propagation, allowed))
    return DeleteOptions(
        dry_run=bool(given.get("dryRun")) or _dry_run("DeleteOptions", query.get("dryRun")),
        grace_seconds=grace,
        propagation=propagation or None,
        orphan=given.get("orphanDependents"),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
    )


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error


def list_options(resource: Resource, namespace: str, name: str, query: Mapping[str, str]) -> ListOptions:
    fields = query.get("fieldSelector", "")
    if name:
        fields = f"metadata.name={name}" + (f",{fields}" if fields else "")
    match = query.get("resourceVersionMatch", "")
    if match and not query.get("resourceVersion") and not query.get("sendInitialEvents"):
        detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise invalid_options("ListOptions", forbidden_field("resourceVersionMatch", detail))
    if match not in _MATCHES:
        raise invalid_options("ListOptions", unsupported("resourceVersionMatch", match, _MATCHES))
    return ListOptions(
        filter=make_filter(resource, namespace, query.get("labelSelector", ""), fields),
        limit=whole_number(query.get("limit") or "0"),
        token=query.get("continue", ""),
        version=query.get("resourceVersion", ""),
        match=match,
    )
