"""Server-side apply and field management: who owns which field, and what happens when two want the same.

Source: the algorithm of structured-merge-diff's `merge.Updater` and of the API server's `fieldmanager`:
- An apply owns exactly the fields that it sends. What it owned before and no longer sends is removed, unless
  another manager owns it too.
- A field that another manager owns and that this apply would change is a conflict, unless it forces.
- An update owns what it changed, and takes it from the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from services.simulator.core.fieldsets import (
    EMPTY,
    FieldSet,
    Path,
    decode,
    difference,
    element_key,
    encode,
    is_associative,
    is_granular,
    paths_of,
    readable,
)
from services.simulator.core.meta import Json
from services.simulator.core.schema import Schema

_NEVER_OWNED: tuple[Path, ...] = (
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generateName",
        )
    ),
)


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry of `managedFields`."""

    name: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: FieldSet

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return self.name, self.operation, self.api_version, self.subresource


class Conflict(Exception):  # noqa: N818  # it is what Kubernetes calls it
    """The fields that others own: (manager, path)."""

    def __init__(self, found: tuple[tuple[Manager, Path], ...]) -> None:
        super().__init__(f"{len(found)} fields")
        self.found = found

    def causes(self) -> list[Json]:
        return [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{manager.name}"{_using(manager)}',
                "field": readable(path),
            }
            for manager, path in sorted(self.found, key=lambda entry: (entry[0].name, entry[1]))
        ]


def _using(manager: Manager) -> str:
    text = f' with subresource "{manager.subresource}"' if manager.subresource else ""
    return text if manager.operation == "Apply" else f"{text} using {manager.api_version}"


def read_managers(obj: Json) -> list[Manager]:
    return [
        Manager(
            entry.get("manager", ""),
            entry.get("operation", "Update"),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
            entry.get("time", ""),
            decode(entry.get("fieldsV1") or {}),
        )
        for entry in obj["metadata"].get("managedFields") or ()
    ]


def write_managers(managers: Iterable[Manager]) -> list[Json]:
    """Applies first, then the oldest, then by name: the order of the API server."""
    entries = []
    for manager in sorted(managers, key=lambda entry: (entry.operation, entry.time, *entry.identity)):
        entry: Json = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": manager.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": encode(manager.fields),
        }
        if manager.subresource:
            entry["subresource"] = manager.subresource
        entries.append(entry)
    return entries


@lru_cache(maxsize=4096)
def _ownable(fields: FieldSet, reset: tuple[Path, ...]) -> FieldSet:
    """Without the fields that nobody owns and those that this endpoint does not write."""
    return frozenset(
        path for path in fields if path not in _NEVER_OWNED and not any(path[: len(start)] == start for start in reset)
    )


def _without(managers: list[Manager], identity: tuple[str, ...] | None, fields: FieldSet) -> list[Manager]:
    """Takes fields from every manager but one; a manager without fields is dropped."""
    kept = []
    for manager in managers:
        if manager.identity != identity and manager.fields & fields:
            manager = replace(manager, fields=manager.fields - fields)  # noqa: PLW2901
        if manager.fields:
            kept.append(manager)
    return kept


def _with(managers: list[Manager], entry: Manager) -> list[Manager]:
    others = [manager for manager in managers if manager.identity != entry.identity]
    return [*others, entry] if entry.fields else others


def track_update(
    old: Json | None, new: Json, schema: Schema, manager: Manager, reset: tuple[Path, ...]
) -> list[Manager]:
    """The managers after a create (`old` is None) or an update by `manager` (whose fields are ignored)."""
    managers = read_managers(old) if old is not None else []
    changed, removed = (_ownable(fields, reset) for fields in difference(old or {"metadata": {}}, new, schema))
    if not changed and not removed:
        return managers
    before = next((entry.fields for entry in managers if entry.identity == manager.identity), EMPTY)
    managers = _without(managers, manager.identity, changed | removed)
    return _with(managers, replace(manager, fields=(before | changed) - removed))


def track_creation(config: Json, schema: Schema, manager: Manager, reset: tuple[Path, ...]) -> list[Manager]:
    """The manager of an object that an apply creates: it owns what it sent."""
    return _with([], replace(manager, fields=_ownable(paths_of(config, schema), reset)))


@dataclass(frozen=True, slots=True)
class Applied:
    object: Json
    managers: list[Manager]


def apply(
    live: Json, config: Json, schema: Schema, manager: Manager, *, force: bool, reset: tuple[Path, ...]
) -> Applied:
    """The object after an apply of `config` by `manager` (whose fields are ignored).

    Raises:
        Conflict: others own fields that this apply would change, and `force` is not set.
    """
    managers = read_managers(live)
    wanted = _ownable(paths_of(config, schema), reset)
    merged = merge(live, config, schema)
    changed, _ = difference(live, merged, schema)
    others = [entry for entry in managers if entry.identity != manager.identity]
    found = tuple((entry, path) for entry in others for path in sorted(entry.fields & changed & wanted))
    if found and not force:
        raise Conflict(found)
    managers = _without(managers, manager.identity, frozenset(path for _, path in found))
    owned = next((entry.fields for entry in managers if entry.identity == manager.identity), EMPTY)
    kept = frozenset().union(*(entry.fields for entry in managers if entry.identity != manager.identity))
    # From the top: an element that goes as a whole must not be emptied field by field first.
    for path in sorted(owned - wanted, key=len):
        if not any(other[: len(path)] == path for other in kept):
            merged = _remove(merged, path, schema)
    return Applied(merged, _with(managers, replace(manager, fields=wanted)))


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """What `config` says over what is there; shares what does not change."""
    if is_granular(live, schema) and is_granular(config, schema):
        merged = dict(live)
        for name, value in config.items():
            merged[name] = merge(live[name], value, schema.child(name)) if name in live else value
        return merged
    if is_associative(schema) and isinstance(live, list) and isinstance(config, list):
        return _merge_list(live, config, schema)
    return config


def _merge_list(live: list[Any], config: list[Any], schema: Schema) -> list[Any]:
    wanted = {element_key(value, schema): value for value in config}
    merged = []
    for value in live:
        other = wanted.pop(element_key(value, schema), None)
        merged.append(value if other is None else merge(value, other, schema.element))
    return [*merged, *wanted.values()]


def _remove(value: Any, path: Path, schema: Schema) -> Any:
    """The value without a field. A map or list that becomes empty thereby goes too."""
    head, rest = path[0], path[1:]
    if head.startswith("f:"):
        name = head[2:]
        if not isinstance(value, dict) or name not in value:
            return value
        inner = _remove(value[name], rest, schema.child(name)) if rest else None
        others = {key: kept for key, kept in value.items() if key != name}
        return others if inner is None or inner in ({}, []) else {**value, name: inner}
    if not isinstance(value, list):
        return value
    kept_elements = []
    for element in value:
        if element_key(element, schema) != head:
            kept_elements.append(element)
        elif rest:
            kept_elements.append(_remove(element, rest, schema.element))
    return kept_elements
