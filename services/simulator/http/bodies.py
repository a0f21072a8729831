"""Reading request bodies: JSON, YAML or protobuf, bounded in size."""

from __future__ import annotations

from typing import Any

import orjson
import yaml
from aiohttp import web

from services.simulator.core.errors import ApiError, bad_request, unsupported_media
from services.simulator.core.protobuf import decode_protobuf

MAX_BODY = 3 * 1024 * 1024
_JSON = "application/json"
_YAML = "application/yaml"
_PROTOBUF = "application/vnd.kubernetes.protobuf"
APPLY = "application/apply-patch+yaml"
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
)
_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def media_type(request: web.BaseRequest) -> str:
    return request.headers.get("Content-Type", _JSON).partition(";")[0].strip()


async def read_bytes(request: web.BaseRequest) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        message = f"Request entity too large: limit is {MAX_BODY}"
        raise ApiError(413, "RequestEntityTooLarge", message) from error


def parse(raw: bytes, content_type: str) -> Any:
    """The value of a body.

    Raises:
        ApiError: 400 for what cannot be parsed, 415 for a media type that is not served.
    """
    if content_type in {_YAML, APPLY}:
        return _parse_yaml(raw)
    if content_type == _PROTOBUF:
        return decode_protobuf(raw)
    if content_type not in {_JSON, *PATCHES}:
        raise unsupported_media((_JSON, _YAML, _PROTOBUF))
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error


def _parse_yaml(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass  # not JSON, which is the fast case of YAML
    try:
        value = yaml.load(raw, Loader=_loader)  # noqa: S506  # a safe loader
        return orjson.loads(orjson.dumps(value))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise bad_request(f"error decoding YAML: {error}") from error


async def read_body(request: web.BaseRequest) -> Any:
    return parse(await read_bytes(request), media_type(request))


async def read_optional(request: web.BaseRequest) -> Any:
    raw = await read_bytes(request)
    return parse(raw, media_type(request)) if raw.strip() else None
