"""Watches: the server's end, fed by the simulator's store, and the client's, which the real list-watch reads."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from services.simulator.http.watching import WatchSession
from tests.simulation.futures import fail, resolve
from tests.simulation.links import Link
from tests.simulation.loop import WORLD
from tests.simulation.process import Process


class Sessions(Protocol):
    """An API server's open watches."""

    @property
    def bookmark_s(self) -> float: ...

    @property
    def silent(self) -> bool: ...

    def opened(self, watch: Watch) -> None: ...

    def closed(self, watch: Watch) -> None: ...


class Watch(WatchSession):
    """A server's end of a watch, which tells its stream when there is something to send."""

    client: Stream | None = None

    def _enqueue(self, event: Any) -> None:
        super()._enqueue(event)
        if self._queue and self.client is not None:
            self.client.ready()

    def close(self) -> None:
        super().close()
        if self.client is not None:
            self.client.ready()

    def send_bookmark(self) -> None:
        if self._bookmarks and self._open:
            self._queue.append(self.bookmark())

    def finish(self) -> None:
        """Its time is up: the server ends it as it should."""
        self.send_bookmark()
        self.close()

    def catch_up(self) -> None:
        """The server's cache is no longer behind."""
        if self.client is not None:
            self.client.ready()

    def take(self) -> bytes:
        return self._take()

    @property
    def broken(self) -> bool:
        return self._aborted

    @property
    def ended(self) -> bool:
        return not self._open and not self._queue


class Stream:
    """A client's end of a watch."""

    def __init__(self, process: Process, server: Sessions, link: Link, silence_s: float) -> None:
        self._process = process
        self._loop = process.loop
        self._server = server
        self._link = link
        self._silence_s = silence_s
        self._session: Watch | None = None
        self._buffer: list[bytes] = []
        self._over = False
        self._error: OSError | None = None
        self._underway = False
        self._waiter: asyncio.Future[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self.closed = False
        process.when_severed(self.close)

    def begin(self, session: Watch, seconds: float) -> None:
        self._session = session
        session.client = self
        self._server.opened(session)
        self._timers = [
            self._loop.call_later(seconds, session.finish, context=WORLD),
            self._loop.call_later(self._server.bookmark_s, self._bookmark, context=WORLD),
        ]
        self.ready()

    def ready(self) -> None:
        """The server has something to send, or nothing any more."""
        if not self._underway and not self.closed and not self._server.silent:
            self._underway = True
            self._loop.call_later(self._link.arrival(), self._deliver, context=WORLD)

    def _deliver(self) -> None:
        self._underway = False
        session = self._session
        if session is None or self.closed:
            return
        if session.broken:
            self._error = ConnectionResetError("the connection was reset")
        else:
            while chunk := session.take():
                self._buffer.append(chunk)
            self._over = session.ended
        if self._waiter is not None:
            resolve(self._waiter, None)

    def _bookmark(self) -> None:
        session = self._session
        if session is not None and not self.closed and not session.broken:
            session.send_bookmark()
            self.ready()
            again = self._loop.call_later(self._server.bookmark_s, self._bookmark, context=WORLD)
            self._timers[1] = again

    async def readany(self) -> bytes:
        self._process.effect("read a watch")
        if not self._buffer and self._error is None and not self._over:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiter = waiter
            timer = self._loop.call_later(self._silence_s, fail, waiter, TimeoutError("the watch is silent"))
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._error is not None:
            raise self._error
        chunk = b"".join(self._buffer)
        self._buffer.clear()
        return chunk

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for timer in self._timers:
            timer.cancel()
        if self._session is not None:
            self._session.stop()
            self._server.closed(self._session)
