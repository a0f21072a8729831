"""Tables: how a server shows objects to people (`Accept: application/json;as=Table`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.simulator.core.durations import age
from services.simulator.core.jsonpath import find
from services.simulator.core.meta import Json
from services.simulator.core.printers import PRINTERS
from services.simulator.core.printers.base import Printer, age_of, name_of
from services.simulator.core.resources import Column, Resource

_GENERIC = Printer(("Name", "Age"), lambda obj, now: [name_of(obj), age_of(obj, now)])


def column_definitions(resource: Resource) -> list[Json]:
    if not resource.columns:
        return PRINTERS.get(resource.storage, _GENERIC).definitions()
    name = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}
    declared = [
        {
            "name": column.name,
            "type": column.type,
            "format": "",
            "description": column.description,
            "priority": column.priority,
        }
        for column in resource.columns
    ]
    return [name, *declared]


def _cells(resource: Resource, obj: Json, now: float) -> list[Any]:
    if not resource.columns:
        return PRINTERS.get(resource.storage, _GENERIC).cells(obj, now)
    return [name_of(obj), *(_custom_cell(column, obj, now) for column in resource.columns)]


def _custom_cell(column: Column, obj: Json, now: float) -> Any:
    found = find(obj, column.json_path)
    if not found:
        return None
    if len(found) > 1:
        return ",".join(map(str, found)) if column.type == "string" else found[0]
    value = found[0]
    if column.type == "date":
        return age(value if isinstance(value, str) else None, now)
    if column.type == "string" and not isinstance(value, str):
        return None if value is None else _as_text(value)
    return value


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def partial(obj: Json) -> Json:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def rows(resource: Resource, objects: Iterable[Json], now: float, include: str) -> list[Json]:
    """`include` is None, Metadata (the default) or Object."""
    shown = []
    for obj in objects:
        row: Json = {"cells": _cells(resource, obj, now)}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        shown.append(row)
    return shown


def table(
    resource: Resource, objects: Iterable[Json], metadata: Json, now: float, include: str, *, headers: bool = True
) -> Json:
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": column_definitions(resource) if headers else [],
        "rows": rows(resource, objects, now, include),
    }
