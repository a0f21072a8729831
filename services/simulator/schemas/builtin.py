"""Loads `builtin.json` and its annotations into schemas."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from services.simulator.core.schema import ANY, Schema, SchemaType
from services.simulator.schemas import annotations as marks

_SCALARS: dict[str, SchemaType] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "time": "time",
    "quantity": "quantity",
    "int-or-string": "int-or-string",
}
_CREATED_BY_SERVER = {"metadata", "creationTimestamp"}
"""Required in the models because the server always sets them, not because a client must."""


class BuiltinTypes:
    """Builds each named type once; types refer to one another, also in circles."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._types: dict[str, Schema] = {}

    def type(self, name: str) -> Schema:
        found = self._types.get(name)
        if found is None:
            found = self._types[name] = Schema("object", name)
            found.atomic = name in marks.ATOMIC_TYPES
            described = self._document[name]
            found.required = tuple(field for field in described.get("required", ()) if field not in _CREATED_BY_SERVER)
            for field, notation in described["fields"].items():
                found.properties[field] = self._field(f"{name}.{field}", notation)
        return found

    def _field(self, path: str, notation: str) -> Schema:
        if path in marks.QUANTITIES:
            notation = notation.replace("string", "quantity")
        if notation == "any" and path.rpartition(".")[2] in marks.INT_OR_STRING:
            notation = "int-or-string"
        schema = self._notation(notation)
        if path in marks.LIST_MAPS:
            schema.list_type, schema.list_keys = "map", marks.LIST_MAPS[path]
            schema.merge_key = schema.list_keys[0]
        elif path in marks.LIST_SETS:
            schema.list_type, schema.merge_key = "set", ""
        elif path in marks.MERGE_KEYS:
            schema.merge_key = marks.MERGE_KEYS[path]
        schema.atomic = schema.atomic or path in marks.ATOMIC_FIELDS
        self._constrain(schema, path)
        return schema

    def _constrain(self, schema: Schema, path: str) -> None:
        if path in marks.ENUMS:
            schema.constraints["enum"] = marks.ENUMS[path]
        if path in marks.NOT_NEGATIVE:
            schema.constraints["minimum"] = 0
        if path in marks.PORTS:
            schema.constraints["port"] = True

    def _notation(self, notation: str) -> Schema:
        if notation.startswith("list<"):
            array = Schema("array")
            array.items = self._notation(notation[5:-1])
            return array
        if notation.startswith("map<"):
            mapping = Schema("object")
            mapping.values = self._notation(notation[4:-1])
            return mapping
        if notation == "any":
            return ANY
        if notation in _SCALARS:
            return Schema(_SCALARS[notation])
        return self.type(notation)


@lru_cache(maxsize=1)
def builtin_types() -> BuiltinTypes:
    return BuiltinTypes(orjson.loads(Path(__file__).with_name("builtin.json").read_bytes()))
