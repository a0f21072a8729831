"""Reading and rebuilding objects: small helpers that never change what they are given."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

Json = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""


@lru_cache(maxsize=64)
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def timestamp(now: float) -> str:
    """RFC 3339 in whole seconds, as `metav1.Time` is written."""
    return _format_second(int(now))


def micro_timestamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@lru_cache(maxsize=4096)
def parse_timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def key_of(obj: Json) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def labels_of(obj: Json) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Json) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def controller_of(obj: Json) -> Json | None:
    """The owner reference with `controller: true`, if there is one."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None


def owner_reference(owner: Json) -> Json:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def with_meta(obj: Json, **changes: Any) -> Json:
    """The object with other metadata; a value of None removes the field."""
    meta = {**obj["metadata"], **changes}
    return {**obj, "metadata": {name: value for name, value in meta.items() if value is not None}}


def with_spec(obj: Json, **changes: Any) -> Json:
    return {**obj, "spec": {**obj.get("spec", {}), **changes}}


def with_status(obj: Json, **changes: Any) -> Json:
    """The object with other status fields; a value of None removes the field."""
    status = {**obj.get("status", {}), **changes}
    return {**obj, "status": {name: value for name, value in status.items() if value is not None}}


def is_deleting(obj: Json) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def condition(obj: Json, kind: str) -> Json | None:
    for entry in obj.get("status", {}).get("conditions") or ():
        if entry["type"] == kind:
            return dict(entry)
    return None


def condition_true(obj: Json, kind: str) -> bool:
    entry = condition(obj, kind)
    return entry is not None and entry["status"] == "True"


def set_conditions(existing: Iterable[Json], changes: Iterable[Json], now: float) -> list[Json]:
    """Replaces conditions by type; the transition time moves only when the status does."""
    merged = {entry["type"]: entry for entry in existing}
    for change in changes:
        before = merged.get(change["type"])
        moved = before is None or before["status"] != change["status"]
        since = timestamp(now) if moved or before is None else before.get("lastTransitionTime", timestamp(now))
        merged[change["type"]] = {"lastTransitionTime": since, **change}
    return list(merged.values())
