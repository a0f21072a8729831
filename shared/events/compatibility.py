"""Whether a new schema still says all that the old one said: within v1 a schema only gains optional fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

# What may change freely: it says nothing of which documents are valid.
_PROSE = frozenset({"title", "description", "examples", "default", "$id", "$schema"})
_STRUCTURE = frozenset({"properties", "required", "$defs", "items", "additionalProperties"})


def breaking_changes(old: Schema, new: Schema, path: str = "") -> list[str]:
    """Each way in which `new` refuses, renames or retypes what `old` allowed, as `path: what`."""
    return list(_changes(old, new, path))


def _changes(old: Schema, new: Schema, path: str) -> Iterator[str]:
    yield from _properties(old, new, path)
    for name, definition in old.get("$defs", {}).items():
        # A definition that no schema refers to any more shows as a change where it was referred to.
        if name in new.get("$defs", {}):
            yield from _changes(definition, new["$defs"][name], f"{path}#{name}")
    for key in ("items", "additionalProperties"):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _changes(before, after, f"{path}.{key}")
        elif before != after and after is not None:
            yield f"{path}: {key} changed from {before} to {after}"
    for key in sorted((old.keys() | new.keys()) - _PROSE - _STRUCTURE):
        before, after = _bare(old.get(key)), _bare(new.get(key))
        if before != after and not _widens(key, before, after):
            yield f"{path}: {key} changed from {before} to {after}"


def _properties(old: Schema, new: Schema, path: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name in before:
        if name not in after:
            yield f"{path}.{name}: was removed"
        else:
            yield from _changes(before[name], after[name], f"{path}.{name}")
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        yield f"{path}.{name}: is required now"


def _bare(value: Any) -> Any:
    """Without prose, at any depth."""
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if key not in _PROSE}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value


def _widens(key: str, before: Any, after: Any) -> bool:
    """Limits may be loosened, and an enumeration may grow."""
    match key:
        case "enum":
            return before is not None and after is not None and set(before) <= set(after)
        case "maximum" | "maxLength" | "maxItems" | "exclusiveMaximum":
            return after is None or (before is not None and after >= before)
        case "minimum" | "minLength" | "minItems" | "exclusiveMinimum":
            return after is None or (before is not None and after <= before)
        case "anyOf" | "oneOf":
            return before is not None and after is not None and all(item in after for item in before)
    return after is None and key in {"pattern", "format"}
