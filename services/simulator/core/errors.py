"""Failures as Kubernetes words them: one exception that carries a `metav1.Status`.

Sources: k8s.io/apimachinery/pkg/api/errors and pkg/util/validation/field. Clients decide by `reason` and
`code`, people read `message`, and tests of controllers compare all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from services.simulator.core.resources import Resource

Json = dict[str, Any]

_FIELD_WORDS = {
    "FieldValueRequired": "Required value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueNotFound": "Not found",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
    "FieldValueTypeInvalid": "Invalid value",
}


class ApiError(Exception):
    """A request that ends in a Status other than success. A reason may be empty, and then is not sent."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Json | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after

    def status(self) -> Json:
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None or self.retry_after is not None:
            body["details"] = dict(self.details or {})
        if self.retry_after is not None:
            body["details"]["retryAfterSeconds"] = self.retry_after
        return body | {"code": self.code}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One cause of an Invalid status; `shown` is the offending value, left out where Kubernetes does so."""

    reason: str
    field: str
    detail: str = ""
    shown: Any = None

    def message(self) -> str:
        words = _FIELD_WORDS[self.reason]
        if self.reason in {"FieldValueRequired", "FieldValueForbidden", "FieldValueTooLong"}:
            return f"{words}: {self.detail}" if self.detail else words
        text = f"{words}: {orjson.dumps(self.shown).decode()}"
        return f"{text}: {self.detail}" if self.detail else text


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, detail)


def invalid_value(field: str, shown: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, detail, shown)


def unsupported(field: str, shown: Any, allowed: Iterable[str]) -> FieldError:
    listed = ", ".join(f'"{value}"' for value in allowed)
    return FieldError("FieldValueNotSupported", field, f"supported values: {listed}", shown)


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, detail)


def duplicate(field: str, shown: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, "", shown)


def _details(resource: Resource, name: str) -> Json:
    details: Json = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return details | {"kind": resource.plural}


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: Resource, name: str) -> ApiError:
    message = f'{resource.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(resource, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: Resource, name: str, why: str = MODIFIED) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    message = f'{resource.qualified} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(resource, name))


def invalid(resource: Resource, name: str, problems: Sequence[FieldError]) -> ApiError:
    texts = [f"{problem.field}: {problem.message()}" for problem in problems]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    causes = [{"reason": problem.reason, "message": problem.message(), "field": problem.field} for problem in problems]
    details = _details(resource, name) | {"kind": resource.kind, "causes": causes}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {joined}', details)


def invalid_options(kind: str, problem: FieldError) -> ApiError:
    """Query parameters that contradict the `<kind>Options` of a verb."""
    cause = {"reason": problem.reason, "message": problem.message(), "field": problem.field}
    message = f'{kind}.meta.k8s.io "" is invalid: {problem.field}: {problem.message()}'
    return ApiError(422, "Invalid", message, {"group": "meta.k8s.io", "kind": kind, "causes": [cause]})


def internal(message: str) -> ApiError:
    """What Kubernetes answers when a handler returns an error that is no Status: a 500 without a reason."""
    return ApiError(500, "", message)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def gone_version(requested: int, oldest: int) -> ApiError:
    return expired(f"too old resource version: {requested} ({oldest})")


def version_too_large(requested: int, current: int) -> ApiError:
    message = f"Timeout: Too large resource version: {requested}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiError(504, "Timeout", message, {"causes": [cause]}, retry_after=1)


def too_many_requests(message: str, retry_after: int, cause: Json | None = None) -> ApiError:
    details = {"causes": [cause]} if cause else None
    return ApiError(429, "TooManyRequests", message, details, retry_after)


def method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media(accepted: Iterable[str]) -> ApiError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiError(415, "UnsupportedMediaType", message)


def apply_conflict(causes: list[Json]) -> ApiError:
    """`causes` are ordered by manager, each with a message of the form `conflict with "manager"...`."""
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
        return ApiError(409, "Conflict", text, {"causes": causes})
    lines: list[str] = []
    last = ""
    for cause in causes:
        if cause["message"] != last:
            last = cause["message"]
            lines.append(f"{last.replace('conflict', 'conflicts', 1)}:")
        lines.append(f"- {cause['field']}")
    text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", text, {"causes": causes})
