"""`x-kubernetes-validations`: the rules of a schema, evaluated at every place of an object that has one.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel. Rules that the evaluator does not know pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.simulator.core.cel import CelError, UnsupportedError, compile_rule
from services.simulator.core.errors import FieldError, invalid_value
from services.simulator.core.meta import Json
from services.simulator.core.schema import Schema

_MISSING = object()
_ROOT_METADATA = ("name", "generateName")
UNCHECKED = FieldError(
    "FieldValueInvalid",
    "<nil>",
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    None,
)


def check_rules(value: Any, old: Any, schema: Schema, path: str = "") -> Iterator[FieldError]:
    """What the rules of a schema have against a value. `old` is the value before an update, if it can be known."""
    if not schema.custom_rules:
        return
    yield from _own_rules(value, old, schema, path)
    if isinstance(value, dict):
        for name, inner in value.items():
            child = schema.properties.get(name) or schema.values
            if child is not None:
                before = old.get(name, _MISSING) if isinstance(old, dict) else _MISSING
                yield from check_rules(inner, before, child, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and schema.items is not None:
        known = _by_key(old, schema)
        for index, inner in enumerate(value):
            before = known.get(_key(inner, schema), _MISSING)
            yield from check_rules(inner, before, schema.items, f"{path}[{index}]")


def _own_rules(value: Any, old: Any, schema: Schema, path: str) -> Iterator[FieldError]:
    scope = {"self": value if path else _root(value)}
    if old is not _MISSING and old is not None:
        scope["oldSelf"] = old if path else _root(old)
    for rule in schema.rules:
        try:
            program = compile_rule(rule["rule"])
        except UnsupportedError:
            continue  # said in the README; a simulator must not refuse what a real server would accept
        if program.compares_versions and "oldSelf" not in scope:
            continue
        try:
            holds = program.evaluate(scope)
        except CelError as error:
            yield _failure(rule, value, path, f"rule evaluation error: {error}")
            continue
        if holds is not True:
            yield _failure(rule, value, path, _message(rule, scope))


def _root(value: Any) -> Any:
    """At the root only name and generateName of the metadata are visible."""
    if not isinstance(value, dict):
        return value
    meta = value.get("metadata") or {}
    return {**value, "metadata": {name: meta[name] for name in _ROOT_METADATA if name in meta}}


def _message(rule: Json, scope: dict[str, Any]) -> str:
    if "messageExpression" in rule:
        try:
            text = compile_rule(rule["messageExpression"]).evaluate(scope)
        except (CelError, UnsupportedError):
            text = None
        if isinstance(text, str) and text.strip():
            return text
    return str(rule.get("message") or f"failed rule: {rule['rule'].strip()}")


def _failure(rule: Json, value: Any, path: str, message: str) -> FieldError:
    field = f"{path}{rule['fieldPath']}".lstrip(".") if rule.get("fieldPath") else path
    reason = rule.get("reason", "FieldValueInvalid")
    if reason in {"FieldValueRequired", "FieldValueForbidden"}:
        return FieldError(reason, field or "<nil>", message)
    return invalid_value(field or "<nil>", value, message)


def _key(value: Any, schema: Schema) -> Any:
    if schema.list_type == "map" and isinstance(value, dict):
        return tuple(repr(value.get(name)) for name in schema.list_keys)
    return None


def _by_key(old: Any, schema: Schema) -> dict[Any, Any]:
    if schema.list_type != "map" or not isinstance(old, list):
        return {}
    return {_key(value, schema): value for value in old}
