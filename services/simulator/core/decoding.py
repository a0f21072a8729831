"""From the body of a request to an object of a resource: kind, schema, unknown fields."""

from __future__ import annotations

from typing import Any

from services.simulator.core.errors import bad_request
from services.simulator.core.meta import Json
from services.simulator.core.resources import Resource
from services.simulator.core.structural import Decoder, apply_defaults

_ORDER = ("apiVersion", "kind", "metadata")


def check_body(body: Any, resource_kind: str) -> Json:
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {resource_kind})")
    return body


def decode_object(resource: Resource, body: Any, validation: str) -> tuple[Json, list[str]]:
    """The object as the schema has it, apiVersion and kind first; and warnings about what was dropped.

    Raises:
        ApiError: 400 for another kind, a wrong type or, if validation is Strict, unknown fields.
    """
    body = check_body(body, resource.kind)
    _check_kind(resource, body)
    decoder = Decoder(resource.kind, resource.version, strict_types=not resource.custom)
    decoded = decoder.decode(body, resource.schema)
    if not isinstance(decoded.get("metadata"), dict):
        decoded["metadata"] = {}
    if resource.custom:
        apply_defaults(decoded, resource.schema)
    warnings = [f'unknown field "{path}"' for path in decoder.unknown]
    if warnings and validation == "Strict":
        prefix = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
        raise bad_request(f"{prefix}strict decoding error: {', '.join(warnings)}")
    ordered = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": decoded["metadata"]}
    ordered |= {name: value for name, value in decoded.items() if name not in _ORDER}
    return ordered, [] if validation == "Ignore" else warnings


def _check_kind(resource: Resource, body: Json) -> None:
    kind, api_version = body.get("kind"), body.get("apiVersion")
    if not kind or not api_version:
        if resource.custom or kind or api_version:
            missing = "Kind" if not kind else "apiVersion"
            raise bad_request(f"Object '{missing}' is missing in '{str(body)[:200]}'")
        return
    if kind != resource.kind:
        version = str(api_version).rpartition("/")[2]
        conversion = f"converting ({version}.{kind}) to ({resource.group or 'core'}.{resource.kind})"
        raise bad_request(
            f'{kind} in version "{version}" cannot be handled as a {resource.kind}: {conversion}: unknown conversion'
        )
    if api_version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version "
            f"({resource.api_version})"
        )
