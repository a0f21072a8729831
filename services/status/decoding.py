"""Reads bytes into structures of only what is needed, and refuses what cannot be read as `DecodeError`."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from shared.events.registry import DecodeError, decode
from shared.events.v1.workloads import FieldError
from shared.model.base import Value

T = TypeVar("T")

MAX_TEXT = 512


def decode_with(decoder: msgspec.json.Decoder[T], value: bytes) -> T:
    """Raises DecodeError."""
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError((FieldError(field="", reason="Malformed", message=str(error)[:MAX_TEXT]),)) from error


def decode_message(decoder: msgspec.json.Decoder[T], model: type[Value], value: bytes | None) -> T:
    """A message of `model` as the decoder's structure; what that refuses, the model judges, and says which field it is.

    Raises DecodeError.
    """
    if value is not None:
        try:
            return decoder.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    read: Any = decode(model, value)
    return decode_with(decoder, read.to_json())
