"""The shape of objects: one notation for built-in types and for the structural schemas of custom ones.

Everything that depends on shape reads it: decoding, pruning, defaulting, validation, strategic merge,
server-side apply and the OpenAPI documents. Types may contain themselves, so a Schema is built first and
its properties filled in afterwards; from then on it does not change.
"""

from __future__ import annotations

from typing import Any, Literal

SchemaType = Literal[
    "object", "array", "string", "integer", "number", "boolean", "time", "quantity", "int-or-string", "any"
]


class Absent:
    """The type of `ABSENT`: a default may be null, so null cannot stand for none."""


ABSENT = Absent()


class Schema:
    """A node of a schema.

    `list_type` is atomic, set or map (with `list_keys`); `merge_key` is the key of strategic merge, which
    for historical reasons is only the first of several; `atomic` makes an object owned as one value.
    """

    __slots__ = (
        "atomic",
        "constraints",
        "custom_rules",
        "default",
        "description",
        "items",
        "list_keys",
        "list_type",
        "merge_key",
        "name",
        "nullable",
        "preserve",
        "properties",
        "required",
        "rules",
        "type",
        "values",
    )

    def __init__(self, kind: SchemaType, name: str = "") -> None:
        self.type: SchemaType = kind
        self.name = name
        self.properties: dict[str, Schema] = {}
        self.values: Schema | None = None
        self.items: Schema | None = None
        self.required: tuple[str, ...] = ()
        self.list_type: Literal["atomic", "set", "map"] = "atomic"
        self.list_keys: tuple[str, ...] = ()
        self.merge_key: str | None = None
        self.atomic = False
        self.preserve = False
        self.nullable = False
        self.default: Any = ABSENT
        self.constraints: dict[str, Any] = {}
        self.rules: tuple[dict[str, Any], ...] = ()
        self.custom_rules = False
        """Whether rules stand here or anywhere below."""
        self.description = ""

    def child(self, name: str) -> Schema:
        """The schema of a field; `ANY` for what is not described."""
        return self.properties.get(name) or self.values or ANY

    @property
    def element(self) -> Schema:
        return self.items or ANY


ANY = Schema("any")
ANY.preserve = True
