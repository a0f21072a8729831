"""The listening side: finds the cluster of a request, checks the token, lets faults happen, answers errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any

import structlog
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter

from services.simulator import telemetry
from services.simulator.core.errors import ApiError, no_such_path
from services.simulator.faults import Faults
from services.simulator.http.api import KubernetesApi
from services.simulator.http.bodies import MAX_BODY
from services.simulator.http.responses import error_response

_log = structlog.get_logger(__name__)
_CLUSTERS = "/clusters/"
_SHUTDOWN_SECONDS = 2.0

AdminHandler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


def _make_request(
    message: Any,
    payload: StreamReader,
    protocol: Any,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """A request that may be as large as etcd allows; aiohttp's own limit is smaller."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


class Served:
    """A cluster as the server knows it."""

    __slots__ = ("api", "faults")

    def __init__(self, api: KubernetesApi, faults: Faults) -> None:
        self.api = api
        self.faults = faults


class ApiServer:
    """Serves clusters under /clusters/<name>, and the simulator's own API under /simulator."""

    def __init__(self, clock: Callable[[], float], token: str | None, admin: AdminHandler) -> None:
        self._clock = clock
        self._token = token
        self._admin = admin
        self.clusters: dict[str, Served] = {}
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listens; the port, which is chosen by the system if it was 0."""
        # A handler is cancelled when its client goes, or a watch without events would stay subscribed.
        server = web.Server(self._handle, request_factory=_make_request, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=tls, reuse_address=True)
        await site.start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        for served in self.clusters.values():
            for session in tuple(served.api.sessions):
                session.close()
        await asyncio.sleep(0)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._answer(request)
        telemetry.REQUESTS.labels(request.method, response.status).inc()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except ApiError as error:
            return error_response(error)
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001  # whatever is broken here, clients are owed a Status
            _log.exception("request failed", method=request.method, path=request.path)
            return error_response(ApiError(500, "InternalError", "Internal error occurred: see the simulator's log"))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        self._authenticate(request)
        if not path.startswith(_CLUSTERS):
            if path == "/simulator" or path.startswith("/simulator/"):
                return await self._admin(request, path.removeprefix("/simulator"))
            if path in {"/healthz", "/readyz", "/livez"}:
                return web.Response(text="ok")
            raise no_such_path()
        name, _, rest = path.removeprefix(_CLUSTERS).partition("/")
        served = self.clusters.get(name)
        if served is None:
            raise no_such_path()
        served.api.state.advance(self._clock())
        await served.faults.before(request, rest)
        return await served.api.handle(request, f"/{rest}")

    def _authenticate(self, request: web.BaseRequest) -> None:
        if self._token is None:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not compare_digest(given.encode(), self._token.encode()):
            raise ApiError(401, "Unauthorized", "Unauthorized")
