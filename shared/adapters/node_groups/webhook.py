"""Node groups of whatever answers the calls of docs/node-group-webhook.yaml.

Each request is signed: HMAC-SHA256, with a key that both have, over the time and the body. The time is part of it, so
that a request that somebody recorded is worth nothing later. A request whose answer did not come is sent again with the
same order id, by which the other side knows that it is no second order.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from pydantic import Field, ValidationError

from shared.adapters.node_groups.retried import retried
from shared.events.v1.clusters import MAX_NODES, WebhookGroup
from shared.model.base import Value
from shared.model.node_groups import (
    FORBIDDEN,
    NOT_FOUND,
    OUT_OF_STOCK,
    PROVIDER_UNAVAILABLE,
    REFUSED,
    GroupState,
    NodeRef,
)
from shared.ports.clock import Clock
from shared.ports.node_groups import ProviderError

TIMESTAMP_HEADER: Final = "Flotilla-Timestamp"
SIGNATURE_HEADER: Final = "Flotilla-Signature"
ORDER_HEADER: Final = "Flotilla-Order-Id"
DEADLINE_S: Final = 20.0
_ATTEMPT_S: Final = 6.0
_MOST_BYTES: Final = 4 * 1024 * 1024
_OK: Final = 200
_ERROR: Final = 400
_REASONS: Final = frozenset({OUT_OF_STOCK, NOT_FOUND, FORBIDDEN, PROVIDER_UNAVAILABLE, REFUSED})
_BY_STATUS: Final = {
    401: FORBIDDEN,
    403: FORBIDDEN,
    404: NOT_FOUND,
    408: PROVIDER_UNAVAILABLE,
    429: PROVIDER_UNAVAILABLE,
}
_SERVER_ERROR: Final = 500


def signature(key: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=<hex>` over `<timestamp>.<body>`; `timestamp` in seconds since 1970, as in its header."""
    return "sha256=" + hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class StateNode(Value):
    name: str
    leaving: bool = False


class StateAnswer(Value):
    """What a webhook says of a group."""

    size: int = Field(ge=0, le=MAX_NODES)
    nodes: tuple[StateNode, ...] = Field(default=(), max_length=MAX_NODES)
    unjoined: int = Field(default=0, ge=0, le=MAX_NODES)
    reason: str = Field(default="", max_length=64)
    message: str = ""


class WebhookProvider:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        provider: WebhookGroup,
        key_file: Path,
        *,
        cluster: str,
        group: str,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._session = session
        self._clock = clock
        self._url = provider.url.rstrip("/")
        self._key_file = key_file
        self._facts = {"cluster": cluster, "group": group}
        self._deadline_s = deadline_s

    async def state(self, nodes: Sequence[NodeRef]) -> GroupState:
        body = await self._call("state", {"nodes": _refs(nodes)})
        try:
            answer = StateAnswer.model_validate_json(body)
        except ValidationError as error:
            raise ProviderError(
                PROVIDER_UNAVAILABLE, f"{self._url}/state: the answer is none: {error}"[:512]
            ) from error
        there = {node.name: node.leaving for node in answer.nodes}
        return GroupState(answer.size, there, answer.unjoined, answer.reason, answer.message[:512])

    async def resize(self, size: int) -> None:
        await self._call("resize", {"size": size})

    async def remove(self, nodes: Sequence[NodeRef]) -> None:
        await self._call("remove", {"nodes": _refs(nodes)})

    async def _call(self, what: str, facts: Mapping[str, Any]) -> bytes:
        """The answer's body, from one of several attempts."""
        url, order = f"{self._url}/{what}", str(uuid.uuid4())
        body = orjson.dumps({**self._facts, **facts, "orderId": order})
        key = await asyncio.to_thread(self._key)
        return await retried(
            self._clock, lambda: self._attempt(url, order, body, key), what=url, deadline_s=self._deadline_s
        )

    async def _attempt(self, url: str, order: str, body: bytes, key: bytes) -> bytes:
        timestamp = str(self._clock.now_ms() // 1000)
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(key, timestamp, body),
            ORDER_HEADER: order,
        }
        try:
            # Redirects would carry a signed order to somebody else.
            async with (
                asyncio.timeout(_ATTEMPT_S),
                self._session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                answer = await _bounded(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ProviderError(PROVIDER_UNAVAILABLE, f"{url}: {type(error).__name__}: {error}"[:512]) from error
        if response.status != _OK:
            raise _refusal(url, response.status, answer)
        return answer

    def _key(self) -> bytes:
        """Read for each call: a key may be changed while the process runs."""
        try:
            key = self._key_file.read_bytes().strip()
        except OSError as error:
            raise ProviderError(FORBIDDEN, f"the key {self._key_file.name} cannot be read: {error.strerror}") from error
        if not key:
            raise ProviderError(FORBIDDEN, f"the key {self._key_file.name} is empty")
        return key


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(_MOST_BYTES)
    while not response.content.at_eof() and len(body) < _MOST_BYTES:
        body += await response.content.read(_MOST_BYTES - len(body))
    if not response.content.at_eof():
        raise aiohttp.ClientPayloadError(f"more than {_MOST_BYTES} bytes")
    return body


def _refusal(url: str, status: int, body: bytes) -> ProviderError:
    """What the answer says of itself, if its status is one of a refusal; else what the status says."""
    usual = PROVIDER_UNAVAILABLE if status < _ERROR or status >= _SERVER_ERROR else _BY_STATUS.get(status, REFUSED)
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    document = said if isinstance(said, dict) else {}
    reason, message = document.get("reason"), document.get("message", "")
    known = reason if isinstance(reason, str) and reason in _REASONS else usual
    return ProviderError(known, f"{url}: {status} {message}"[:512])


def _refs(nodes: Sequence[NodeRef]) -> list[dict[str, str]]:
    return [{"name": node.name, "providerId": node.provider_id} for node in nodes]
