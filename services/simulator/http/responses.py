"""Bodies: lists joined from stored bytes, statuses, tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web

from services.simulator.core.errors import ApiError
from services.simulator.core.meta import Json
from services.simulator.core.reading import Page
from services.simulator.core.resources import Resource
from services.simulator.core.store import Item

_JSON = "application/json"


def json_response(body: Any, status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    return raw_response(orjson.dumps(body), status, warnings)


def raw_response(body: bytes, status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    response = web.Response(body=body, status=status, content_type=_JSON)
    for warning in warnings:
        escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def error_response(error: ApiError) -> web.Response:
    response = json_response(error.status(), error.code)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def success(resource: Resource, name: str, uid: str) -> Json:
    details: Json = {"name": name}
    if resource.group:
        details["group"] = resource.group
    details |= {"kind": resource.plural, "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def created_status() -> Json:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def raw_of(resource: Resource, item: Item) -> bytes:
    """The bytes of an object in the version that was asked for."""
    if resource.custom and item.object["apiVersion"] != resource.api_version:
        return orjson.dumps({**item.object, "apiVersion": resource.api_version})
    return item.raw


def list_metadata(page: Page) -> Json:
    metadata: Json = {"resourceVersion": str(page.version)}
    if page.token:
        metadata["continue"] = page.token
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    return metadata


def list_body(resource: Resource, page: Page) -> bytes:
    """A list from the bytes of its items. Built-in items go without apiVersion and kind, as they do in Kubernetes."""
    if resource.custom:
        items = [raw_of(resource, item) for item in page.items]
    else:
        prefix = b'{"apiVersion":"%b","kind":"%b",' % (resource.api_version.encode(), resource.kind.encode())
        size = len(prefix)
        items = [b"{" + item.raw[size:] if item.raw.startswith(prefix) else item.raw for item in page.items]
    return b'{"kind":"%bList","apiVersion":"%b","metadata":%b,"items":[%b]}' % (
        resource.kind.encode(),
        resource.api_version.encode(),
        orjson.dumps(list_metadata(page)),
        b",".join(items),
    )
