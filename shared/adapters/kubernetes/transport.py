"""Requests to one API server over aiohttp: one session, raw bytes, a deadline for everything.

What the server answers with an error status, and what the network does, is raised as `ApiError`. A refused credential
(401) is read again and tried once more, so that a rotated token costs nobody a failure.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from aiohttp import AddrInfoType
from yarl import URL

from shared.adapters.kubernetes.credentials import Access, Credentials
from shared.adapters.kubernetes.errors import api_error
from shared.ports.cluster_api import ApiError

JSON: Final = "application/json"
USER_AGENT: Final = "flotilla"
# Watches hold a connection each; this is for them and for what runs beside them.
MAX_CONNECTIONS: Final = 256
CONNECT_S: Final = 10.0
# aiohttp stops reading from the socket when twice as much is waiting: this bounds what a slow reader leaves behind.
READ_BUFFER_BYTES: Final = 512 * 1024
# The kernel gives up a connection on which something stays unacknowledged for so long. Without that it goes on sending
# for minutes, even after the caller gave the request up: a write would arrive long after it was thought to have failed.
UNACKNOWLEDGED_S: Final = 15.0
_UNAUTHORIZED: Final = 401
_ERROR: Final = 400
_ERROR_BODY_BYTES: Final = 64 * 1024


class Content(Protocol):
    """The body of an answer, as it arrives."""

    async def readany(self) -> bytes:
        """What has arrived, at least a byte; empty at the end. Raises TimeoutError, OSError, aiohttp.ClientError."""


class ApiTransport(Protocol):
    """What carries requests to one API server: `Transport`, or one that needs no network."""

    @property
    def server(self) -> str: ...

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        deadline_s: float,
    ) -> bytes:
        """The body of a successful answer. Raises ApiError."""

    def stream(self, path: str, query: Mapping[str, str], *, silence_s: float) -> AbstractAsyncContextManager[Content]:
        """The body of a GET as it arrives. On entering raises ApiError; reading it raises what `Content` says."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str]
    timeout: aiohttp.ClientTimeout
    body: bytes | None = None
    content_type: str = JSON

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def new_socket(address: AddrInfoType, unacknowledged_s: float = UNACKNOWLEDGED_S) -> socket.socket:
    """A socket for a connection to `address`; where the system cannot bound retransmission, a plain one."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(unacknowledged_s * 1000))
    return made


class Transport:
    """One session to one API server. Opened inside the event loop, closed by `close`."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, socket_factory=new_socket),
            # Agents sit beside their API server: to decompress costs more than to transfer.
            headers={"Accept": JSON, "Accept-Encoding": "identity", "User-Agent": USER_AGENT},
            read_bufsize=READ_BUFFER_BYTES,
        )

    @property
    def server(self) -> str:
        return self._credentials.server

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        deadline_s: float,
    ) -> bytes:
        """The body of a successful answer. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_S)
        request = _Request(method, path, query or {}, timeout, body, content_type)
        with _as_api_errors(request):
            async with asyncio.timeout(deadline_s):
                response = await self._open(request)
                async with response:
                    return await response.read()

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, silence_s: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a GET as it arrives. On entering raises ApiError; inside, network errors are aiohttp's."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=silence_s)
        request = _Request("GET", path, query, timeout)
        with _as_api_errors(request):
            response = await self._open(request)
        try:
            yield response.content
        finally:
            # A watch has no end worth waiting for: its connection goes with it.
            response.close()

    async def close(self) -> None:
        await self._session.close()

    async def _open(self, request: _Request) -> aiohttp.ClientResponse:
        access = await self._credentials.current()
        response = await self._send(access, request)
        if response.status == _UNAUTHORIZED and await self._credentials.renew(access):
            response.release()
            response = await self._send(await self._credentials.current(), request)
        if response.status < _ERROR:
            return response
        async with response:
            text = await response.content.read(_ERROR_BODY_BYTES)
            raise api_error(response.status, text, response.headers.get("Retry-After"))

    async def _send(self, access: Access, request: _Request) -> aiohttp.ClientResponse:
        headers = {"Authorization": access.authorization} if access.authorization else {}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        return await self._session.request(
            request.method,
            URL(access.server + request.path, encoded=True).with_query(dict(request.query)),
            data=request.body,
            headers=headers,
            timeout=request.timeout,
            allow_redirects=False,
            ssl=access.ssl if access.ssl is not None else True,
            server_hostname=access.server_hostname,
            proxy=access.proxy,
        )


@contextmanager
def _as_api_errors(request: _Request) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ApiError(0, "Timeout", f"{request}: no answer in time") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ApiError(0, "Unreachable", f"{request}: {type(error).__name__}: {error}") from error
