"""From pydantic's JSON Schema to a structural schema of `apiextensions.k8s.io/v1`.

Structural means: no `$ref`, a `type` at every node, nothing but validation in `anyOf`. Defaults are left out on
purpose: the models supply them when a request is made, so what a user wrote stays as it was written. Unknown fields
need no `additionalProperties: false`: the API server prunes them, and kubectl refuses them by default.

Source: Kubernetes documentation, CustomResourceDefinition versions, "Specifying a structural schema".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
# CEL rules by the name of the model whose objects they hold for.
Rules = Mapping[str, Sequence[Mapping[str, str]]]

_KEPT = (
    "type", "description", "enum", "pattern", "format", "minimum", "maximum",
    "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
)  # fmt: skip
# The cost of CEL rules is estimated from the largest possible values, so everything that they read needs a bound.
_MAX_TEXT = 4096
_MAX_ITEMS = 128
_MAX_PROPERTIES = 64
_INT_OR_STRING = "int-or-string"
_TAG_RULES = "x-tag-rules"
_QUANTITY = r"^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$"


def structural_schema(model: type[BaseModel], rules: Rules) -> Schema:
    """The structural schema of a model's wire form."""
    document = model.model_json_schema(by_alias=True)
    definitions = document.pop("$defs", {})
    return _Converter(definitions, rules).convert(document)


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema], rules: Rules) -> None:
        self._definitions = definitions
        self._rules = rules

    def convert(self, node: Schema) -> Schema:
        node = self._resolve(node)
        if node.get("format") == "quantity":
            return _int_or_string(node, _QUANTITY)
        if node.get("format") == _INT_OR_STRING:
            return _int_or_string(node, node["pattern"])
        out: Schema = {name: node[name] for name in _KEPT if name in node}
        if "const" in node:
            out["enum"] = [node["const"]]
        if "type" not in out:
            # Any JSON at all: the one thing, beside int-or-string, that may be without a type.
            out["x-kubernetes-preserve-unknown-fields"] = True
        match out.get("type"):
            case "object":
                self._object(node, out)
            case "array":
                self._array(node, out)
            case "string":
                if "enum" not in out:
                    out.setdefault("maxLength", 64 if out.get("format") else _MAX_TEXT)
            case "integer":
                out.setdefault("format", "int64")
        return out

    def _resolve(self, node: Schema) -> Schema:
        """Follows references, and takes `X | None` and unions of literals for what they are."""
        merged = dict(node)
        while "$ref" in merged or "anyOf" in merged or "oneOf" in merged:
            if "$ref" in merged:
                target = self._definitions[merged.pop("$ref").rpartition("/")[2]]
            elif "oneOf" in merged:
                tag = merged.pop("discriminator")["propertyName"]
                target = _tagged_union(tag, [self._resolve(item) for item in merged.pop("oneOf")])
            else:
                options = [self._resolve(item) for item in merged.pop("anyOf") if item.get("type") != "null"]
                target = options[0] if len(options) == 1 else _union(options)
            merged = {**target, **merged}
        return merged

    def _object(self, node: Schema, out: Schema) -> None:
        properties = node.get("properties")
        if properties:
            out["properties"] = {name: self.convert(item) for name, item in properties.items()}
            if required := node.get("required"):
                out["required"] = list(required)
        elif isinstance(values := node.get("additionalProperties"), dict):
            out["additionalProperties"] = self.convert(values)
            out.setdefault("maxProperties", _MAX_PROPERTIES)
        else:
            out["x-kubernetes-preserve-unknown-fields"] = True
        if rules := (*self._rules.get(str(node.get("title")), ()), *node.get(_TAG_RULES, ())):
            out["x-kubernetes-validations"] = [dict(rule) for rule in rules]

    def _array(self, node: Schema, out: Schema) -> None:
        out["items"] = self.convert(node["items"])
        out.setdefault("maxItems", _MAX_ITEMS)
        keys = node.get("x-list-map")
        if keys is None and self._has_unique_names(node["items"]):
            keys = ["name"]
        out["x-kubernetes-list-type"] = "map" if keys else "atomic"
        if keys:
            out["x-kubernetes-list-map-keys"] = list(keys)

    def _has_unique_names(self, items: Schema) -> bool:
        return str(items.get("$ref", "")).endswith(("/PodSet", "/NodeGroup"))


def _int_or_string(node: Schema, pattern: str) -> Schema:
    out: Schema = {"description": node["description"]} if "description" in node else {}
    return {
        **out,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": pattern,
        "maxLength": 64,
        "x-kubernetes-int-or-string": True,
    }


def _tagged_union(tag: str, options: Sequence[Schema]) -> Schema:
    """One object with the fields of all options, which must agree on those of one name; rules say which go together."""
    properties: dict[str, Schema] = {}
    having: dict[str, list[str]] = {}
    rules: list[dict[str, str]] = []
    for option in options:
        value, fields = option["properties"][tag]["const"], {**option["properties"]}
        del fields[tag]
        for name, schema in fields.items():
            if properties.setdefault(name, schema) != schema:
                raise ValueError(f"{name} differs between the options of a union by {tag}")
            having.setdefault(name, []).append(value)
        if needed := [name for name in option.get("required", ()) if name != tag]:
            given = " && ".join(f"has(self.{name})" for name in needed)
            message = f"{', '.join(needed)} must be given with {tag} {value}"
            rules.append({"rule": f"self.{tag} != '{value}' || ({given})", "message": message})
    for name, values in having.items():
        if len(values) < len(options):
            message = f"{name} goes with {tag} {' or '.join(values)}"
            rules.append({"rule": f"!has(self.{name}) || self.{tag} in {values}", "message": message})
    tags = {"type": "string", "enum": [option["properties"][tag]["const"] for option in options]}
    return {"type": "object", "properties": {tag: tags, **properties}, "required": [tag], _TAG_RULES: rules}


def _union(options: Sequence[Schema]) -> Schema:
    by_type = {option.get("type"): option for option in options}
    if by_type.keys() == {"integer", "string"} and "pattern" in by_type["string"]:
        return {"format": _INT_OR_STRING, "pattern": by_type["string"]["pattern"]}
    values = [value for option in options for value in option.get("enum", [option.get("const")])]
    if None in values:
        raise ValueError(f"only unions of literals, and of a number and a text, have a schema, not {options}")
    return {"type": "string", "enum": values}
