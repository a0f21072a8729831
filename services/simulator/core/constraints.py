"""Validation of values by their schema: what is required, and the bounds of JSON Schema, in Kubernetes' words.

Sources: k8s.io/kube-openapi/pkg/validation (custom resources) and k8s.io/kubernetes/pkg/apis/*/validation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

from services.simulator.core.errors import FieldError, duplicate, invalid_value, required, unsupported
from services.simulator.core.schema import Schema

Check = Callable[[Any, Any, str, bool], Iterator[FieldError]]
_MAX_PORT = 65535


def validate(value: Any, schema: Schema, path: str = "", *, custom: bool = False) -> Iterator[FieldError]:
    """Everything that is wrong with a value. `custom` chooses the words of custom resources."""
    if value is None and schema.nullable:
        return
    if custom and not _type_holds(value, schema):
        shown = {"NoneType": "null", "dict": "object", "list": "array", "str": "string", "bool": "boolean"}.get(
            type(value).__name__, "number"
        )
        wanted = {"int-or-string": "integer,string", "time": "string"}.get(schema.type, schema.type)
        yield FieldError("FieldValueTypeInvalid", path, f'{path} in body must be of type {wanted}: "{shown}"', shown)
        return
    for name, bound in schema.constraints.items():
        check = _CHECKS.get(name)
        if check is not None:
            yield from check(value, bound, path, custom)
    if isinstance(value, dict):
        yield from _members(value, schema, path, custom=custom)
    elif isinstance(value, list):
        yield from _elements(value, schema, path, custom=custom)


def _members(value: dict[str, Any], schema: Schema, path: str, *, custom: bool) -> Iterator[FieldError]:
    prefix = f"{path}." if path else ""
    for name in schema.required:
        if name not in value or (not custom and value[name] in ("", {}, [])):
            yield required(f"{prefix}{name}")
    for name, inner in value.items():
        child = schema.properties.get(name) or schema.values
        if child is not None and not _is_plain(inner, child, custom=custom):
            yield from validate(inner, child, f"{prefix}{name}", custom=custom)


def _is_plain(value: Any, schema: Schema, *, custom: bool) -> bool:
    """Whether it is a scalar of which nothing but its type is asked, as most are: `validate` finds nothing wrong."""
    return not (schema.constraints or isinstance(value, dict | list)) and (not custom or _type_holds(value, schema))


def _elements(value: list[Any], schema: Schema, path: str, *, custom: bool) -> Iterator[FieldError]:
    element = schema.element
    for index, inner in enumerate(value):
        if not _is_plain(inner, element, custom=custom):
            yield from validate(inner, element, f"{path}[{index}]", custom=custom)
    if schema.list_type == "map":
        seen: set[tuple[str, ...]] = set()
        for index, inner in enumerate(value):
            if not isinstance(inner, dict):
                continue
            key = tuple(repr(inner.get(name, "TCP" if name == "protocol" else None)) for name in schema.list_keys)
            if key in seen:
                yield _duplicate(inner, schema, f"{path}[{index}]", custom=custom)
            seen.add(key)


def _duplicate(element: dict[str, Any], schema: Schema, path: str, *, custom: bool) -> FieldError:
    """Built-in types name the field of a single key; several keys are shown together."""
    shown = {name: element.get(name) for name in schema.list_keys}
    if len(shown) > 1 or custom:
        return duplicate(path, shown)
    name, value = next(iter(shown.items()))
    return duplicate(f"{path}.{name}", value)


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "time": (str,),
    "quantity": (str, int),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "int-or-string": (int, str),
}


def _type_holds(value: Any, schema: Schema) -> bool:
    types = _TYPES.get(schema.type)
    if types is None:
        return True
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _numeric(holds: Callable[[Any, Any], bool], words: str) -> Check:
    def check(value: Any, bound: Any, path: str, custom: bool) -> Iterator[FieldError]:
        if isinstance(value, int | float) and not isinstance(value, bool) and not holds(value, bound):
            detail = f"{path} in body should be {words} {bound}" if custom else f"must be {words} {bound}"
            yield invalid_value(path, value, detail)

    return check


def _sized(kind: type[str | list[Any] | dict[str, Any]], holds: Callable[[int, Any], bool], words: str) -> Check:
    def check(value: Any, bound: Any, path: str, custom: bool) -> Iterator[FieldError]:
        del custom
        if isinstance(value, kind) and not holds(len(value), bound):
            yield invalid_value(path, value, f"{path} in body {words.format(bound)}")

    return check


def _enum(value: Any, allowed: Any, path: str, custom: bool) -> Iterator[FieldError]:
    del custom
    if value not in allowed:
        yield unsupported(path, value, [str(choice) for choice in allowed])


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _pattern(value: Any, pattern: Any, path: str, custom: bool) -> Iterator[FieldError]:
    del custom
    if isinstance(value, str) and not compiled(pattern).search(value):
        yield invalid_value(path, value, f"{path} in body should match '{pattern}'")


def _max_length(value: Any, bound: Any, path: str, custom: bool) -> Iterator[FieldError]:
    del custom
    if isinstance(value, str) and len(value) > bound:
        yield FieldError("FieldValueTooLong", path, f"may not be more than {bound} bytes", "<value omitted>")


def _port(value: Any, bound: Any, path: str, custom: bool) -> Iterator[FieldError]:
    del bound, custom
    if value == 0:
        yield required(path)
    elif not isinstance(value, int) or not 0 < value <= _MAX_PORT:
        yield invalid_value(path, value, "must be between 1 and 65535, inclusive")


def _unique(value: Any, wanted: Any, path: str, custom: bool) -> Iterator[FieldError]:
    del custom
    if wanted and isinstance(value, list) and len({repr(item) for item in value}) != len(value):
        yield invalid_value(path, value, f"{path} in body shouldn't contain duplicates")


def _format(value: Any, name: Any, path: str, custom: bool) -> Iterator[FieldError]:
    del custom
    if name == "date-time" and isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            yield invalid_value(path, value, f"{path} in body must be of type date-time: {value!r}")


def _holds(value: Any, schema: Schema, path: str, custom: bool) -> bool:
    return next(validate(value, schema, path, custom=custom), None) is None


def _all_of(value: Any, schemas: Any, path: str, custom: bool) -> Iterator[FieldError]:
    for schema in schemas:
        yield from validate(value, schema, path, custom=custom)


def _any_of(value: Any, schemas: Any, path: str, custom: bool) -> Iterator[FieldError]:
    if not any(_holds(value, schema, path, custom) for schema in schemas):
        yield invalid_value(path, value, f"{path} in body must validate at least one schema (anyOf)")


def _one_of(value: Any, schemas: Any, path: str, custom: bool) -> Iterator[FieldError]:
    if sum(_holds(value, schema, path, custom) for schema in schemas) != 1:
        yield invalid_value(path, value, f"{path} in body must validate one and only one schema (oneOf)")


def _not(value: Any, schema: Any, path: str, custom: bool) -> Iterator[FieldError]:
    if _holds(value, schema, path, custom):
        yield invalid_value(path, value, f"{path} in body must not validate the schema (not)")


_CHECKS: dict[str, Check] = {
    "minimum": _numeric(lambda value, bound: value >= bound, "greater than or equal to"),
    "maximum": _numeric(lambda value, bound: value <= bound, "less than or equal to"),
    "exclusiveMinimum": _numeric(lambda value, bound: value > bound, "greater than"),
    "exclusiveMaximum": _numeric(lambda value, bound: value < bound, "less than"),
    "multipleOf": _numeric(lambda value, bound: value % bound == 0, "a multiple of"),
    "minLength": _sized(str, lambda size, bound: size >= bound, "should be at least {} chars long"),
    "minItems": _sized(list, lambda size, bound: size >= bound, "should have at least {} items"),
    "maxItems": _sized(list, lambda size, bound: size <= bound, "should have at most {} items"),
    "minProperties": _sized(dict, lambda size, bound: size >= bound, "should have at least {} properties"),
    "maxProperties": _sized(dict, lambda size, bound: size <= bound, "should have at most {} properties"),
    "maxLength": _max_length,
    "enum": _enum,
    "pattern": _pattern,
    "port": _port,
    "uniqueItems": _unique,
    "format": _format,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
}
