"""Reads objects that typed clients send as protobuf (`application/vnd.kubernetes.protobuf`) into what JSON would say.

Sources: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding and the protobuf wire format.
Only requests: responses are JSON, which every client that sends protobuf accepts as well.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from services.simulator.core.errors import bad_request
from services.simulator.core.meta import Json, timestamp

MAGIC = b"k8s\x00"
_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_INLINE = frozenset(
    {
        "volumeSource",
        "persistentVolumeSource",
        "handler",
        "localObjectReference",
        "ephemeralContainerCommon",
        "rule",
        "ruleWithOperations",
    }
)
"""Go embeds these, so their fields stand in the object itself."""
_SIGNED_BITS = 64
_MAX_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _MalformedError(ValueError):
    """Not the wire format."""


@lru_cache(maxsize=1)
def _tables() -> dict[str, Any]:
    tables: dict[str, Any] = orjson.loads((Path(__file__).parent.parent / "schemas" / "protobuf.json").read_bytes())
    return tables


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data) or shift >= 70:  # noqa: PLR2004  # ten groups of seven bits
            raise _MalformedError
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  # no continuation bit
            return result, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _MalformedError
        if at + size > len(data):
            raise _MalformedError
        yield tag >> 3, data[at : at + size]
        at += size


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise _MalformedError
    return value - (1 << _SIGNED_BITS) if value >> (_SIGNED_BITS - 1) else value


def _raw(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _MalformedError
    return value


def _time(value: int | bytes) -> str | None:
    seconds = next((_signed(found) for number, found in _fields(_raw(value)) if number == 1), None)
    return None if seconds is None else timestamp(seconds)


def _int_or_string(value: int | bytes) -> Any:
    found = dict(_fields(_raw(value)))
    return _raw(found.get(3, b"")).decode() if found.get(1) else _signed(found.get(2, 0))


def _embedded_json(value: int | bytes) -> Any:
    raw = next((_raw(found) for number, found in _fields(_raw(value)) if number == 1), b"")
    return orjson.loads(raw) if raw else None


def _quantity(value: int | bytes) -> str:
    return next((_raw(found).decode() for number, found in _fields(_raw(value)) if number == 1), "0")


_CONVERTED: dict[str, Callable[[int | bytes], Any]] = {
    "string": lambda value: _raw(value).decode(),
    "bytes": lambda value: b64encode(_raw(value)).decode(),
    "bool": bool,
    "int32": _signed,
    "int64": _signed,
    "uint32": _signed,
    "uint64": _signed,
    f"{_META}.Time": _time,
    f"{_META}.MicroTime": _time,
    f"{_META}.FieldsV1": _embedded_json,
    "k8s.io.apimachinery.pkg.runtime.RawExtension": _embedded_json,
    "k8s.io.apimachinery.pkg.api.resource.Quantity": _quantity,
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
}


def _convert(kind: str, value: int | bytes, depth: int) -> Any:
    convert = _CONVERTED.get(kind)
    return _message(kind, _raw(value), depth) if convert is None else convert(value)


def _message(name: str, data: bytes, depth: int) -> Json:
    if depth > _MAX_DEPTH:
        raise _MalformedError
    table = _tables()["messages"].get(name)
    if table is None:
        raise _MalformedError
    decoded: Json = {}
    for number, value in _fields(data):
        known = table.get(str(number))
        if known is None:
            continue  # a field of a newer release
        field, kind, cardinality, pointer = known
        if cardinality == "map":
            entry = dict(_fields(_raw(value)))
            inner = _convert(kind, entry.get(2, b""), depth + 1)
            decoded.setdefault(field, {})[_raw(entry.get(1, b"")).decode()] = inner
            continue
        converted = _convert(kind, value, depth + 1)
        if cardinality == "many":
            decoded.setdefault(field, []).append(converted)
        elif field in _INLINE and isinstance(converted, dict):
            decoded |= converted
        elif converted is not None and (pointer or converted not in ("", 0, {})):
            # Go writes the zero values of fields that are no pointers, where JSON would leave them out.
            decoded[field] = converted
    return decoded


def decode_protobuf(body: bytes) -> Json:
    """The object in an envelope (`runtime.Unknown`), with its apiVersion and kind.

    Raises:
        ApiError: 400 for what is not protobuf, or of a kind that is not known.
    """
    if not body.startswith(MAGIC):
        raise bad_request("the body is not in the protobuf encoding of Kubernetes")
    try:
        envelope = dict(_fields(body[len(MAGIC) :]))
        identity = dict(_fields(_raw(envelope.get(1, b""))))
        api_version, kind = _raw(identity.get(1, b"")).decode(), _raw(identity.get(2, b"")).decode()
        group, _, version = api_version.rpartition("/")
        name = _tables()["kinds"].get(f"{group}/{version}/{kind}")
        if kind == "DeleteOptions":
            name = f"{_META}.DeleteOptions"
        if name is None:
            raise bad_request(f'no kind "{kind}" is registered for version "{api_version}" in protobuf')
        return {"apiVersion": api_version, "kind": kind} | _message(name, _raw(envelope.get(2, b"")), 0)
    except (_MalformedError, UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise bad_request("the body is not in the protobuf encoding of Kubernetes") from error
