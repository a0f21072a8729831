"""Watch streams: a bounded queue for each watcher, fed by the store, drained to the connection.

A watcher that does not keep up is cut off, so that it lists again; the store never waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import orjson
from aiohttp import web

from services.simulator.core.meta import Json, with_meta
from services.simulator.core.reading import Filter, events_since, parse_version
from services.simulator.core.resources import Resource
from services.simulator.core.state import ClusterState
from services.simulator.core.store import Event, Item, watch_line
from services.simulator.core.tables import partial, table
from services.simulator.http.negotiation import Representation
from services.simulator.http.responses import raw_of

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_FLUSH_BYTES = 1 << 18
Encoder = Callable[[str, Item, Event | None], bytes]


class Encoders:
    """How one watcher sees events: shared bytes where possible, otherwise its own."""

    def __init__(self, state: ClusterState, resource: Resource, representation: Representation, include: str) -> None:
        self._state = state
        self._resource = resource
        self._include = include
        self._headers = True
        self.encode: Encoder = {
            "Table": self._table,
            "PartialObjectMetadata": self._partial,
        }.get(representation.kind, self._plain)

    def _plain(self, kind: str, item: Item, event: Event | None) -> bytes:
        if event is not None and event.type == kind and not self._resource.custom and event.item is item:
            return event.wire
        return watch_line(kind, raw_of(self._resource, item))

    def _table(self, kind: str, item: Item, event: Event | None) -> bytes:
        del event
        metadata = {"resourceVersion": str(item.version)}
        body = table(self._resource, [item.object], metadata, self._state.now, self._include, headers=self._headers)
        self._headers = False
        return watch_line(kind, orjson.dumps(body))

    def _partial(self, kind: str, item: Item, event: Event | None) -> bytes:
        del event
        return watch_line(kind, orjson.dumps(partial(item.object)))


def _last_seen(event: Event) -> Item:
    """The object as it last matched, at the version of the event that made it stop."""
    assert event.previous is not None
    if event.type == "DELETED":
        return event.item
    changed = with_meta(event.previous.object, resourceVersion=str(event.version))
    return Item(changed, event.version)


class WatchSession:
    """One watch: subscribes when it is made, in the same step in which the missed events are read."""

    def __init__(
        self,
        state: ClusterState,
        resource: Resource,
        wanted: Filter,
        encoders: Encoders,
        *,
        queue_limit: int,
        bookmarks: bool,
    ) -> None:
        self._state = state
        self._resource = resource
        self._filter = wanted
        self._encode = encoders.encode
        self._limit = queue_limit
        self._queue: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self._open = True
        self._aborted = False
        self._bookmarks = bookmarks
        self._collection = state.store.collection(resource.storage)

    def start(self, version: str, *, initial_events: bool) -> None:
        """Queues what the watcher has missed and subscribes to what comes.

        Raises:
            ApiError: the version has left the window or is of the future.
        """
        if initial_events or version in ("", "0"):
            self._snapshot(marker=initial_events)
        else:
            self._replay(events_since(self._state, self._resource, parse_version(version)))
        self._collection.listeners.append(self._on_event)

    def _snapshot(self, *, marker: bool) -> None:
        for item in self._collection.in_namespace(self._filter.namespace):
            if self._filter.matches(item):
                self._queue.append(self._encode("ADDED", item, None))
        if marker and self._bookmarks:
            self._queue.append(self.bookmark({INITIAL_EVENTS_END: "true"}))
        self._ready.set()

    def _replay(self, events: Iterable[Event]) -> None:
        for event in events:
            self._enqueue(event)

    def _enqueue(self, event: Event) -> None:
        kind = self._filter.translate(event)
        if kind is None:
            return
        item = _last_seen(event) if kind == "DELETED" else event.item
        self._queue.append(self._encode(kind, item, event))
        self._ready.set()

    def _on_event(self, event: Event) -> None:
        if len(self._queue) >= self._limit:
            self.abort()
            return
        self._enqueue(event)

    def bookmark(self, annotations: Json | None = None) -> bytes:
        metadata: Json = {"resourceVersion": str(self._state.store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        body = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        return watch_line("BOOKMARK", orjson.dumps(body))

    def abort(self) -> None:
        """Cuts the connection without a goodbye."""
        self._aborted = True
        self.close()

    def close(self) -> None:
        """Ends the stream after what is queued."""
        self._open = False
        self._ready.set()

    def stop(self) -> None:
        self._open = False
        if self._on_event in self._collection.listeners:
            self._collection.listeners.remove(self._on_event)

    def _take(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while self._queue and size < _FLUSH_BYTES:
            chunk = self._queue.popleft()
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)

    async def stream(self, response: web.StreamResponse, seconds: float, bookmark_every: float) -> bool:
        """Writes until the time is up or the session is closed; False if it was cut off."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        next_bookmark = loop.time() + bookmark_every
        while not self._aborted:
            if chunk := self._take():
                await response.write(chunk)
                continue
            now = loop.time()
            if not self._open or now >= ends:
                break
            if self._bookmarks and now >= next_bookmark:
                next_bookmark = now + bookmark_every
                await response.write(self.bookmark())
                continue
            self._ready.clear()
            wait = min(ends, next_bookmark) if self._bookmarks else ends
            timer = loop.call_at(wait, self._ready.set)
            try:
                await self._ready.wait()
            finally:
                timer.cancel()
        if self._aborted:
            return False
        if self._bookmarks:
            await response.write(self.bookmark())
        return True
