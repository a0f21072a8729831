"""Between messages and records: which model a record's type and topic mean, and back.

Decoding never raises anything but `DecodeError`, which names the field: a consumer sends such a record to the
dead-letter topic and goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from shared.events.topics import ALL_TOPICS, COMMAND_ISSUED, REQUESTED, MessageType
from shared.events.v1.workloads import FieldError

M = TypeVar("M", bound=BaseModel)

MESSAGE_TYPES: Mapping[str, MessageType] = {
    message.ce_type: message for message in (*(m for topic in ALL_TOPICS for m in topic.messages), COMMAND_ISSUED)
}

_UNKNOWN = "extra_forbidden"
_TAGS = frozenset({"create", "change", "apply", "delete"})
# Fields that are another model for each kind of provider: of a node group, and of a cluster.
_TAGGED = frozenset({"provider", "provision"})
_MAX_ERRORS = 16
_MAX_MESSAGE = 512


class DecodeError(ValueError):
    """A record's value is not what its type promises."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors


def decode(model: type[M], value: bytes | None) -> M:
    """The message in a record's value.

    What a person asks for may have no unknown field, since that is a typing error. Once it was accepted it travels in
    records of the fleet's own (decisions, placements), where an unknown field is one that a newer version has added:
    during an upgrade it is left out.

    Raises:
        DecodeError: no value, not UTF-8, not JSON, or not what the model allows.
    """
    if value is None:
        raise DecodeError((FieldError(field="", reason="Empty", message="the record has no value"),))
    try:
        return validated(model, value)
    except ValidationError as error:
        unknown = [item["loc"] for item in error.errors(include_url=False) if item["type"] == _UNKNOWN]
        if model is REQUESTED.model or len(unknown) < error.error_count():
            raise DecodeError(field_errors(error)) from error
        return _decode_without(model, value, unknown)


def validated(model: type[M], value: bytes) -> M:
    """Raises ValidationError."""
    return model.model_validate_json(value)


def _decode_without(model: type[M], value: bytes, paths: Iterable[tuple[int | str, ...]]) -> M:
    document = orjson.loads(value)
    for path in paths:
        at = document
        for step in path[:-1]:
            # The tag of a discriminated union is part of the path and not of the document.
            if isinstance(at, list):
                at = at[int(step)]
            elif step in at:
                at = at[step]
        at.pop(path[-1], None)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise DecodeError(field_errors(error)) from error


def field_errors(error: ValidationError) -> tuple[FieldError, ...]:
    """Pydantic's errors as fields, reasons and messages, at most sixteen and each of bounded length."""
    return tuple(_field_error(dict(item)) for item in error.errors(include_url=False)[:_MAX_ERRORS])


def _field_error(item: dict[str, Any]) -> FieldError:
    message = str(item["msg"]).removeprefix("Value error, ")
    # The tag of a discriminated union is not part of the document's path.
    location = ["", *(str(part) for part in item["loc"])]
    path = [part for before, part in pairwise(location) if part not in _TAGS and before not in _TAGGED]
    return FieldError(
        field=".".join(path)[:_MAX_MESSAGE],
        reason=_reason(str(item["type"])),
        message=message[:_MAX_MESSAGE],
    )


def _reason(kind: str) -> str:
    match kind:
        case "missing" | "union_tag_not_found":
            return "Required"
        case "extra_forbidden":
            return "UnknownField"
        case "json_invalid":
            return "Malformed"
    return "Invalid"
