"""What carries a process's requests to a simulated API server: the real client and list-watch run on top of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson

from services.simulator.core.errors import ApiError as ServerError
from services.simulator.http.api import watch_seconds
from shared.adapters.kubernetes.errors import api_error
from shared.adapters.kubernetes.transport import JSON
from shared.ports.cluster_api import ApiError
from tests.simulation.api_server import Answer, ApiServer, Request, headers
from tests.simulation.futures import fail, resolve
from tests.simulation.links import PATIENCE_S, Link
from tests.simulation.loop import WORLD
from tests.simulation.process import Process
from tests.simulation.watches import Stream

_ERROR = 400
_WATCH_HEADERS = headers(JSON)


class SimTransport:
    """Requests of one process to one API server."""

    def __init__(self, process: Process, server: ApiServer, link: Link) -> None:
        self._process = process
        self._loop = process.loop
        self._server = server
        self._link = link

    @property
    def server(self) -> str:
        return f"simulated://{self._server.name}"

    async def close(self) -> None:
        """There is nothing to be closed."""

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
        self._process.effect(f"{method} {path}")
        request = Request(method, path, query or {}, headers(content_type), body or b"")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._send(request, answer, deadline_s)
        said = await answer
        if said.status >= _ERROR:
            raise api_error(said.status, said.body, said.retry_after)
        return said.body

    def _send(self, request: Request, answer: asyncio.Future[Answer], deadline_s: float) -> None:
        server, link, loop = self._server, self._link, self._loop
        troubles, wait, chance = server.troubles, link.arrival(), server.rng.random()
        what = f"{request.method} {request.path}"
        lost = chance < troubles.lost or wait > deadline_s
        # Decided here: troubles that begin on the way must not take an answer for which no deadline was set.
        unanswered = lost or chance < troubles.lost + troubles.unanswered
        if unanswered:
            late = ApiError(0, "Timeout", f"{what}: no answer in time")
            loop.call_later(deadline_s, fail, answer, late, context=WORLD)
        # A slow server takes its time before it does what is asked, and before it says so.
        slow = troubles.latency_s * (0.5 + server.rng.random()) if troubles.latency_s else 0.0
        before = slow * server.rng.random() if slow else 0.0
        wait += before

        def arrive() -> None:
            if server.down:
                gone = ApiError(0, "Unreachable", f"{what}: connection refused")
                loop.call_later(link.delay(), fail, answer, gone, context=WORLD)
                return
            # What a dead process sent may have left it in time or not.
            if not self._process.alive and link.rng.random() < 0.5:
                return
            said = server.handle(request, str(self._process))
            if not unanswered:
                loop.call_later(link.delay() + slow - before, resolve, answer, said, context=WORLD)

        if not lost:
            loop.call_later(wait, arrive, context=WORLD)

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], *, silence_s: float) -> AsyncIterator[Stream]:
        self._process.effect(f"WATCH {path}")
        stream = Stream(self._process, self._server, self._link, silence_s)
        opened: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_later(self._link.arrival(), self._open, path, query, stream, opened, context=WORLD)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await opened
        except TimeoutError as error:
            stream.close()
            raise ApiError(0, "Timeout", f"watch of {path}: no answer in time") from error
        try:
            yield stream
        finally:
            stream.close()

    def _open(self, path: str, query: Mapping[str, str], stream: Stream, opened: asyncio.Future[None]) -> None:
        server, loop = self._server, self._loop
        if not self._process.alive or stream.closed:
            return
        if server.down or self._link.down:
            fail(opened, ApiError(0, "Unreachable", f"watch of {path}: connection refused"))
            return
        request = Request("GET", path, query, _WATCH_HEADERS)
        try:
            session = server.open_watch(request)
        except ServerError as error:
            raised = api_error(
                error.code, orjson.dumps(error.status()), str(error.retry_after) if error.retry_after else None
            )
            loop.call_later(self._link.delay(), fail, opened, raised, context=WORLD)
            return
        stream.begin(session, watch_seconds(query))
        loop.call_later(self._link.delay(), resolve, opened, None, context=WORLD)
