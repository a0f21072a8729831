"""Decoding and pruning: from what a client sent to what is stored, by the schema.

For built-in types this is Go's JSON decoding (a wrong type is a bad request, null is absence, quantities take
their canonical form); for custom ones it is pruning and defaulting, where a wrong type is found by validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.simulator.core.errors import bad_request
from services.simulator.core.quantities import QuantityError, canonical
from services.simulator.core.schema import ABSENT, Schema


@dataclass(slots=True)
class Decoder:
    """One decoding; `unknown` collects the dotted paths of fields that the schema does not have."""

    kind: str
    version: str
    strict_types: bool
    unknown: list[str] = field(default_factory=list)
    struct: str = ""
    """The Go type whose field is being decoded, which errors name."""

    def decode(self, value: Any, schema: Schema, path: str = "") -> Any:
        """The value as it is stored; a new structure that shares nothing mutable with the old."""
        decode = _BY_TYPE.get(schema.type)
        if decode is None:
            return value
        return decode(self, value, schema, path)

    def wrong_type(self, value: Any, schema: Schema, path: str) -> Any:
        if not self.strict_types:
            return value
        sent = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        wanted = {"integer": "int32", "boolean": "bool", "number": "float64", "time": "Time"}.get(
            schema.type, schema.name or schema.type
        )
        raise bad_request(
            f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: json: cannot unmarshal '
            f"{sent} into Go struct field {self.struct or self.kind}.{path} of type {wanted}"
        )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _object(decoder: Decoder, value: Any, schema: Schema, path: str) -> Any:
    if not isinstance(value, dict):
        return decoder.wrong_type(value, schema, path)
    decoded: dict[str, Any] = {}
    outer = decoder.struct
    for name, inner in value.items():
        decoder.struct = schema.name.removeprefix("V1") or outer
        child = schema.properties.get(name) or schema.values
        if child is None:
            if schema.preserve or not (schema.properties or decoder.strict_types):
                decoded[name] = inner
            else:
                decoder.unknown.append(_join(path, name))
            continue
        if inner is None and (decoder.strict_types or (child.default is not ABSENT and not child.nullable)):
            continue
        value_inside = decoder.decode(inner, child, _join(path, name))
        if not (decoder.strict_types and _is_omitted(name, value_inside, child)):
            decoded[name] = value_inside
    decoder.struct = outer
    return decoded


_WRITTEN_WHEN_EMPTY = frozenset({"containers", "rules", "verbs"})


def _is_omitted(name: str, value: Any, schema: Schema) -> bool:
    """Go leaves empty maps and lists of built-in types out; empty structs it keeps, as they may mean something."""
    if value or name in _WRITTEN_WHEN_EMPTY or not isinstance(value, dict | list):
        return False
    return schema.type == "array" or schema.values is not None


def _array(decoder: Decoder, value: Any, schema: Schema, path: str) -> Any:
    if not isinstance(value, list):
        return decoder.wrong_type(value, schema, path)
    element = schema.element
    return [decoder.decode(inner, element, f"{path}[{index}]") for index, inner in enumerate(value)]


def _scalar(*types: type) -> Callable[[Decoder, Any, Schema, str], Any]:
    def decode(decoder: Decoder, value: Any, schema: Schema, path: str) -> Any:
        if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
            return value
        if int in types and isinstance(value, float) and value.is_integer():
            return int(value)
        return decoder.wrong_type(value, schema, path)

    return decode


def _quantity(decoder: Decoder, value: Any, schema: Schema, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return decoder.wrong_type(value, schema, path)
    try:
        return canonical(str(value).strip())
    except QuantityError as error:
        message = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        raise bad_request(
            f'{decoder.kind} in version "{decoder.version}" cannot be handled as a {decoder.kind}: {message}'
        ) from error


_BY_TYPE: dict[str, Callable[[Decoder, Any, Schema, str], Any]] = {
    "object": _object,
    "array": _array,
    "string": _scalar(str),
    "time": _scalar(str),
    "integer": _scalar(int),
    "number": _scalar(int, float),
    "boolean": _scalar(bool),
    "int-or-string": _scalar(int, str),
    "quantity": _quantity,
}


def apply_defaults(value: Any, schema: Schema) -> None:
    """Fills in the defaults of a custom resource's schema, in place (the value is the caller's own)."""
    if isinstance(value, dict):
        for name, known in schema.properties.items():
            if name not in value and known.default is not ABSENT:
                value[name] = _copy(known.default)
        for name, inner in value.items():
            child = schema.properties.get(name) or schema.values
            if child is not None:
                apply_defaults(inner, child)
    elif isinstance(value, list) and schema.items is not None:
        for inner in value:
            apply_defaults(inner, schema.items)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_copy(inner) for inner in value]
    return value
