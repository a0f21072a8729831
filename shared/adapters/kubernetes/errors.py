"""From an HTTP answer that is no success to `ApiError`: Kubernetes' Status, and what proxies say instead."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from shared.ports.cluster_api import ApiError

_MAX_MESSAGE: Final = 2048
# A server that asks for more patience than this is not obeyed to the letter.
_MAX_RETRY_AFTER_S: Final = 600.0
_REASONS: Final[Mapping[int, str]] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
VERSION_TOO_LARGE: Final = "ResourceVersionTooLarge"


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct):
    retryAfterSeconds: float | None = None  # noqa: N815 - Kubernetes' field
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    kind: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(_Status, strict=False)


def api_error(code: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """What an answer with an error status means. `retry_after` is the header of that name."""
    try:
        status = _STATUS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = _Status()
    message = status.message if status.kind == "Status" else body[:_MAX_MESSAGE].decode("utf-8", "replace").strip()
    details = status.details or _Details()
    reason = status.reason or _REASONS.get(code, f"Http{code}")
    if any(cause.reason == VERSION_TOO_LARGE for cause in details.causes or ()):
        reason = VERSION_TOO_LARGE
    wait = _seconds(retry_after) if retry_after else details.retryAfterSeconds or None
    return ApiError(code, reason, message[:_MAX_MESSAGE], retry_after_s=_bounded(wait))


def status_error(raw: bytes) -> ApiError:
    """What the Status in a watch's ERROR event means."""
    try:
        code = _STATUS.decode(raw).code
    except (msgspec.DecodeError, UnicodeDecodeError):
        code = 0
    return api_error(code or 500, raw)


def _seconds(header: str) -> float | None:
    """`Retry-After` as seconds: a number, or a date."""
    try:
        return float(header)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(header).timestamp() - time.time()
    except ValueError:
        return None


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), _MAX_RETRY_AFTER_S)
