"""JSON patch, JSON merge patch and Kubernetes' strategic merge patch.

Sources: RFC 6902, RFC 7396, and k8s.io/apimachinery/pkg/util/strategicpatch. The target is the caller's own copy; the
result may share parts of the patch.
"""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer

from services.simulator.core.errors import ApiError, bad_request
from services.simulator.core.meta import Json
from services.simulator.core.schema import Schema

_MAX_OPERATIONS = 10_000


def json_patch(target: Json, operations: Any) -> Json:
    if not isinstance(operations, list):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        )
    if len(operations) > _MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", message)
    try:
        patched: Json = jsonpatch.JsonPatch(operations).apply(target)
    except jsonpatch.JsonPatchTestFailed as error:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {}) from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, KeyError, TypeError) as error:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {}) from error
    return patched


def merge_patch(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def strategic_merge(target: Any, patch: Any, schema: Schema) -> Any:
    """Maps merge; lists with a merge key merge by it; other lists are replaced. Directives are obeyed."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, list):
            merged[name] = _merge_lists(merged.get(name) or [], value, schema.child(name))
        else:
            merged[name] = strategic_merge(merged.get(name), value, schema.child(name))
    _directives(merged, patch, schema)
    return merged


def _directives(merged: Json, patch: Json, schema: Schema) -> None:
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            merged[field] = [item for item in merged.get(field) or [] if item not in value]
        elif name.startswith("$setElementOrder/"):
            field = name.partition("/")[2]
            if isinstance(merged.get(field), list):
                merged[field] = _in_order(merged[field], value, schema.child(field))
        elif name == "$retainKeys":
            for field in [field for field in merged if field not in value]:
                del merged[field]


def _merge_lists(target: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    if schema.merge_key is None:
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    if schema.merge_key == "":
        return [*target, *(item for item in patch if item not in target)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    key = schema.merge_key
    merged = list(target)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        position = next((at for at, other in enumerate(merged) if other.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            merged = [other for other in merged if other.get(key) != item[key]]
        elif position is None:
            merged.append({name: value for name, value in item.items() if not name.startswith("$")})
        else:
            merged[position] = strategic_merge(merged[position], item, schema.element)
    return merged


def _in_order(items: list[Any], order: list[Any], schema: Schema) -> list[Any]:
    """Sorts by the given order; items that it does not name keep their place relative to their predecessor."""
    key = schema.merge_key

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    ranks = {str(identity(item)): rank for rank, item in enumerate(order)}
    positioned, last = [], -1
    for position, item in enumerate(items):
        last = ranks.get(str(identity(item)), last)
        positioned.append((last, position, item))
    return [item for _, _, item in sorted(positioned, key=lambda entry: entry[:2])]
