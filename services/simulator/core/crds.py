"""Custom resource definitions: from the object to resources with schemas, and its status.

Source: k8s.io/apiextensions-apiserver (structural schemas, pruning, printer columns, names).
"""

from __future__ import annotations

from typing import Any

from services.simulator.core.meta import Json, set_conditions, with_status
from services.simulator.core.resources import Column, Resource, ScaleSpec
from services.simulator.core.schema import Schema, SchemaType
from services.simulator.schemas.builtin import builtin_types

CRD = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer that a definition gets when it is deleted, until its objects are gone."""

_CONSTRAINTS = (
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "pattern",
    "uniqueItems",
    "enum",
    "format",
)
_JUNCTIONS = ("allOf", "anyOf", "oneOf")


def structural(document: Json) -> Schema:
    """A structural schema from an `openAPIV3Schema`."""
    schema = Schema(_type_of(document))
    schema.description = document.get("description", "")
    schema.nullable = bool(document.get("nullable"))
    schema.required = tuple(document.get("required") or ())
    schema.preserve = bool(document.get("x-kubernetes-preserve-unknown-fields"))
    if "default" in document:
        schema.default = document["default"]
    for name, child in (document.get("properties") or {}).items():
        schema.properties[name] = structural(child)
    extra = document.get("additionalProperties")
    if isinstance(extra, dict):
        schema.values = structural(extra)
    elif extra is True:
        schema.preserve = True
    if isinstance(document.get("items"), dict):
        schema.items = structural(document["items"])
    schema.list_type = document.get("x-kubernetes-list-type", "atomic")
    schema.list_keys = tuple(document.get("x-kubernetes-list-map-keys") or ())
    schema.atomic = document.get("x-kubernetes-map-type") == "atomic"
    schema.constraints = _constraints(document)
    schema.rules = tuple(document.get("x-kubernetes-validations") or ())
    if document.get("x-kubernetes-embedded-resource"):
        schema.properties.setdefault("apiVersion", Schema("string"))
        schema.properties.setdefault("kind", Schema("string"))
        schema.properties.setdefault("metadata", builtin_types().type("V1ObjectMeta"))
    children = (*schema.properties.values(), schema.values, schema.items)
    schema.custom_rules = bool(schema.rules) or any(child.custom_rules for child in children if child is not None)
    return schema


def _type_of(document: Json) -> SchemaType:
    if document.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    known: SchemaType = document.get("type", "any")
    return known


def _constraints(document: Json) -> dict[str, Any]:
    found = {name: document[name] for name in _CONSTRAINTS if name in document}
    for side in ("Minimum", "Maximum"):
        if document.get(f"exclusive{side}") is True:
            found[f"exclusive{side}"] = found.pop(side.lower(), 0)
    for name in _JUNCTIONS:
        if name in document and not document.get("x-kubernetes-int-or-string"):
            found[name] = [structural(inner) for inner in document[name]]
    if "not" in document:
        found["not"] = structural(document["not"])
    return found


def root_schema(document: Json) -> Schema:
    """The schema of a whole custom resource: the given one with the type's and object's metadata."""
    schema = structural(document or {"type": "object"})
    schema.properties["apiVersion"] = Schema("string")
    schema.properties["kind"] = Schema("string")
    schema.properties["metadata"] = builtin_types().type("V1ObjectMeta")
    return schema


def _columns(version: Json) -> tuple[Column, ...]:
    declared = tuple(
        Column(
            column["name"],
            column["type"],
            column["jsonPath"],
            column.get("description", ""),
            column.get("priority", 0),
        )
        for column in version.get("additionalPrinterColumns") or ()
    )
    return declared or (Column("Age", "date", ".metadata.creationTimestamp"),)


def resources_of(crd: Json) -> tuple[Resource, ...]:
    """The resources that a definition serves, one for each served version."""
    spec = crd["spec"]
    names = spec["names"]
    resources = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        subresources = version.get("subresources") or {}
        scale = subresources.get("scale")
        resources.append(
            Resource(
                group=spec["group"],
                version=version["name"],
                kind=names["kind"],
                plural=names["plural"],
                singular=names.get("singular") or names["kind"].lower(),
                namespaced=spec["scope"] == "Namespaced",
                schema=root_schema((version.get("schema") or {}).get("openAPIV3Schema") or {}),
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                status="status" in subresources,
                scale=_scale(scale) if scale is not None else None,
                columns=_columns(version),
                custom=True,
                selectable=tuple(field["jsonPath"].lstrip(".") for field in version.get("selectableFields") or ()),
            )
        )
    return tuple(resources)


def _scale(scale: Json) -> ScaleSpec:
    return ScaleSpec(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath", ""))


def established(crd: Json, now: float) -> Json:
    """The definition with the status that the API server gives it once it is served."""
    changes = [
        {
            "type": "NamesAccepted",
            "status": "True",
            "reason": "NoConflicts",
            "message": "no conflicts found",
        },
        {
            "type": "Established",
            "status": "True",
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
        },
    ]
    status = crd.get("status") or {}
    stored = [version["name"] for version in crd["spec"]["versions"] if version.get("storage")]
    kept = [*(status.get("storedVersions") or ()), *stored]
    return with_status(
        crd,
        acceptedNames=crd["spec"]["names"],
        conditions=set_conditions(status.get("conditions") or (), changes, now),
        storedVersions=list(dict.fromkeys(kept)),
    )
