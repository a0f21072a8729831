"""OpenAPI documents that say what is true and no more: types, their fields and the parameters of writes.

kubectl reads them to see that the server validates fields, to merge, and to explain. Version 2 is JSON only.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from services.simulator.core.errors import no_such_path
from services.simulator.core.meta import Json
from services.simulator.core.resources import Resource, ResourceRegistry
from services.simulator.core.schema import ABSENT, Schema

_FORMATS: dict[str, Json] = {
    "time": {"type": "string", "format": "date-time"},
    "quantity": {"type": "string"},
    "any": {},
}
_WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")


class _Definitions:
    """The named types that are referred to, each described once."""

    def __init__(self, prefix: str, *, v3: bool) -> None:
        self.prefix = prefix
        self.v3 = v3
        self.types: dict[str, Json] = {}

    def reference(self, schema: Schema) -> Json:
        if not schema.name:
            return self.describe(schema)
        if schema.name not in self.types:
            self.types[schema.name] = {}
            self.types[schema.name] = self.describe(schema)
        return {"$ref": f"{self.prefix}{schema.name}"}

    def describe(self, schema: Schema) -> Json:
        if schema.type == "int-or-string":
            options = [{"type": "integer"}, {"type": "string"}]
            shape: Json = {"oneOf": options} if self.v3 else {"type": "string", "format": "int-or-string"}
        else:
            shape = dict(_FORMATS.get(schema.type, {"type": schema.type}))
        if schema.description:
            shape["description"] = schema.description
        if schema.properties:
            shape["properties"] = {name: self._property(child) for name, child in schema.properties.items()}
        if schema.values is not None:
            shape["additionalProperties"] = self._property(schema.values)
        if schema.type == "array":
            shape["items"] = self._property(schema.element)
        if schema.required:
            shape["required"] = list(schema.required)
        if schema.default is not ABSENT and self.v3:
            shape["default"] = schema.default
        return shape | self._extensions(schema)

    def _property(self, schema: Schema) -> Json:
        reference = self.reference(schema)
        # A reference beside other keys is not allowed, so kubectl's own documents wrap it.
        return {"allOf": [reference], "default": {}} if self.v3 and "$ref" in reference else reference

    def _extensions(self, schema: Schema) -> Json:
        found: Json = {}
        if schema.type == "array":
            found["x-kubernetes-list-type"] = schema.list_type
            if schema.list_keys:
                found["x-kubernetes-list-map-keys"] = list(schema.list_keys)
        if schema.merge_key is not None:
            found["x-kubernetes-patch-strategy"] = "merge"
            if schema.merge_key:
                found["x-kubernetes-patch-merge-key"] = schema.merge_key
        if schema.atomic:
            found["x-kubernetes-map-type"] = "atomic"
        if schema.preserve:
            found["x-kubernetes-preserve-unknown-fields"] = True
        return found


def _gvk(resource: Resource) -> Json:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _type_name(resource: Resource) -> str:
    return resource.schema.name or f"{resource.group}.{resource.version}.{resource.kind}"


def _base_path(resource: Resource) -> str:
    root = f"/apis/{resource.group}" if resource.group else "/api"
    middle = "/namespaces/{namespace}" if resource.namespaced else ""
    return f"{root}/{resource.version}{middle}/{resource.plural}"


def _operation(resource: Resource, action: str, definitions: _Definitions, *, v3: bool) -> Json:
    schema_of = {"schema": {"type": "string"}} if v3 else {"type": "string"}
    names = _WRITE_PARAMETERS if action in {"post", "put", "patch"} else ()
    content = {"$ref": f"{definitions.prefix}{_type_name(resource)}"}
    body = {"content": {"application/json": {"schema": content}}} if v3 else {"schema": content}
    consumed = ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
    if not resource.custom:
        consumed.insert(2, "application/strategic-merge-patch+json")
    operation: Json = {
        "parameters": [{"name": name, "in": "query", "uniqueItems": True, **schema_of} for name in names],
        "responses": {"200": {"description": "OK", **body}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(resource),
    }
    if action == "patch":
        if v3:
            operation["requestBody"] = {"content": {kind: {"schema": {"type": "object"}} for kind in consumed}}
        else:
            operation["consumes"] = consumed
    return operation


def _paths(resources: Iterable[Resource], definitions: _Definitions, *, v3: bool) -> Json:
    paths: Json = {}
    for resource in resources:
        base = _base_path(resource)
        if "create" in resource.verbs:
            paths[base] = {"post": _operation(resource, "post", definitions, v3=v3)}
        if "get" in resource.verbs:
            actions = ("get", "put", "patch", "delete") if "patch" in resource.verbs else ("get",)
            paths[f"{base}/{{name}}"] = {action: _operation(resource, action, definitions, v3=v3) for action in actions}
    return paths


def _define(resources: Iterable[Resource], definitions: _Definitions) -> None:
    for resource in resources:
        name = _type_name(resource)
        described = definitions.describe(resource.schema)
        described["type"] = "object"
        known = definitions.types.get(name, {}).get("x-kubernetes-group-version-kind", [])
        described["x-kubernetes-group-version-kind"] = [*known, _gvk(resource)]
        definitions.types[name] = described


def openapi_v3_index(registry: ResourceRegistry) -> Json:
    paths: dict[str, Any] = {}
    for group, versions in registry.groups().items():
        for version in versions:
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = blake2b(f"{path}/{registry.generation}".encode(), digest_size=16).hexdigest()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def openapi_v3(registry: ResourceRegistry, path: str, version: str) -> Json:
    prefix, _, rest = path.partition("/")
    group, _, group_version = rest.rpartition("/")
    resources = registry.groups().get(group, {}).get(group_version)
    if prefix not in {"api", "apis"} or resources is None:
        raise no_such_path()
    definitions = _Definitions("#/components/schemas/", v3=True)
    _define(resources, definitions)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes (simulated by Flotilla)", "version": version},
        "paths": _paths(resources, definitions, v3=True),
        "components": {"schemas": definitions.types},
    }


def openapi_v2_protobuf(version: str) -> bytes:
    """The head of the document in the gnostic project's protobuf encoding, without any type.

    kubectl asks for this one where version 3 does not know a kind, only to find that it is unknown.
    """
    # Field numbers of openapi.v2.Document and openapi.v2.Info, all of them length-delimited.
    info = _protobuf_field(1, b"Kubernetes (simulated by Flotilla)") + _protobuf_field(2, version.encode())
    return _protobuf_field(1, b"2.0") + _protobuf_field(2, info) + _protobuf_field(8, b"")


def _protobuf_field(number: int, content: bytes) -> bytes:
    """Content shorter than 128 bytes, so its length takes one."""
    return bytes((number << 3 | 2, len(content))) + content


def openapi_v2(registry: ResourceRegistry, version: str) -> Json:
    definitions = _Definitions("#/definitions/", v3=False)
    resources = [item for versions in registry.groups().values() for listed in versions.values() for item in listed]
    _define(resources, definitions)
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes (simulated by Flotilla)", "version": version},
        "paths": _paths(resources, definitions, v3=False),
        "definitions": definitions.types,
    }
