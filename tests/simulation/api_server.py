"""One cluster of the world: the simulator's API server and controllers in virtual time, and what goes wrong with it.

Requests are handled by the simulator's own routing, in one step when they arrive, without a socket. Every write goes
into the history with the process whose request it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web
from multidict import CIMultiDict

from services.simulator.cluster import Cluster
from services.simulator.core.errors import ApiError as ServerError
from services.simulator.core.errors import no_such_path, too_many_requests
from services.simulator.core.store import Event
from services.simulator.http.api import KubernetesApi, WatchSettings
from services.simulator.http.responses import error_response
from services.simulator.http.routes import parse_route
from services.simulator.load import make_profile
from services.simulator.spec import ClusterSpec
from tests.simulation.history import History, Written
from tests.simulation.loop import WORLD, VirtualLoop
from tests.simulation.process import EPOCH_MS
from tests.simulation.watches import Watch

Json = dict[str, Any]
_SLICE = 500
# `resourceVersion=0`: whatever the server has at hand will do.
_ANY_VERSION = "0"


@dataclass(frozen=True, slots=True)
class Request:
    """As much of an HTTP request as the simulator's routing reads."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    host: str = "simulated"

    async def read(self) -> bytes:
        return self.body


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after: str | None = None


@dataclass(slots=True)
class Troubles:
    """What goes wrong with requests at present: fractions of those that arrive."""

    throttled: float = 0.0
    failing: float = 0.0
    lost: float = 0.0  # never done, never answered
    unanswered: float = 0.0  # done, never answered
    latency_s: float = 0.0
    # A watch cache follows its store no more: lists of any version are old ones, and watches, if `silent`, say nothing.
    stale: bool = False
    silent: bool = False


class ApiServer:
    """`down_until` a moment nothing answers."""

    def __init__(self, loop: VirtualLoop, spec: ClusterSpec, seed: int, history: History) -> None:
        self._loop = loop
        self._history = history
        self._author = ""
        self._scheduled = False
        # Not a set: watches break in the order in which they were opened.
        self._watches: dict[Watch, None] = {}
        # What has been listed, by path and selector, and how that was answered when the cache began to lag.
        self._listed: dict[tuple[str, str], None] = {}
        self._cached: dict[tuple[str, str], Answer] = {}
        self.rng = random.Random(f"{seed}/{spec.name}")
        self.troubles = Troubles()
        self.down_until = 0.0
        self.cluster = Cluster(spec, now=self.now(), on_work=self._on_work, seed=str(seed))
        self._note_what_is_there()
        self.cluster.state.store.listeners.append(self._on_write)
        self.api = KubernetesApi(self.cluster.state, make_profile(spec.load, None), WatchSettings())
        self._on_work()

    @property
    def name(self) -> str:
        return self.cluster.spec.name

    @property
    def down(self) -> bool:
        return self._loop.time() < self.down_until

    def now(self) -> float:
        return EPOCH_MS / 1000 + self._loop.time()

    # Time for the controllers

    def _on_work(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._step, context=WORLD)

    def _step(self) -> None:
        self._scheduled = False
        more = self.cluster.run(self.now(), _SLICE)
        due = self.cluster.engine.next_due()
        if more:
            self._on_work()
        elif due is not None:
            self._loop.call_later(max(due - self.now(), 0.0) + 1e-4, self._wake, context=WORLD)

    def _wake(self) -> None:
        due = self.cluster.engine.next_due()
        if due is not None and due <= self.now():
            self._on_work()

    # Requests

    def handle(self, request: Request, author: str) -> Answer:
        """Does a request at once."""
        if self.troubles.stale and request.query.get("resourceVersion") == _ANY_VERSION:
            cached = self._cached.get(_selected(request))
            if cached is not None:
                return cached
        try:
            self._maybe_refuse()
            response = self._run(self.api.handle(cast("web.BaseRequest", request), request.path), author)
        except ServerError as error:
            response = error_response(error)
        body = response.body if isinstance(response, web.Response) else b""
        return Answer(response.status, cast("bytes", body) or b"", response.headers.get("Retry-After"))

    def _run(self, work: Coroutine[Any, Any, web.StreamResponse], author: str) -> web.StreamResponse:
        self.cluster.state.advance(self.now())
        self._author = author
        try:
            work.send(None)
        except StopIteration as done:
            return cast("web.StreamResponse", done.value)
        finally:
            self._author = ""
        raise RuntimeError("a request waited, and there is nothing to wait for")

    def _maybe_refuse(self) -> None:
        """Raises ServerError."""
        troubles, chance = self.troubles, self.rng.random()
        if chance < troubles.throttled:
            raise too_many_requests("too many requests (injected)", 1)
        if chance < troubles.throttled + troubles.failing:
            code = self.rng.choice((500, 503))
            raise ServerError(code, "InternalError" if code == 500 else "ServiceUnavailable", "injected")

    def _note_what_is_there(self) -> None:
        """A cluster begins with its nodes and namespaces: whoever reads the history has to know of them."""
        at_ms = EPOCH_MS + int(self._loop.time() * 1000)
        for (storage, _, _), obj in self.objects().items():
            self._history.writes.append(Written(at_ms, "", self.name, "ADDED", storage, obj))

    def _on_write(self, storage: str, event: Event) -> None:
        if storage in {"events", "leases.coordination.k8s.io"}:
            return
        at_ms = EPOCH_MS + int(self._loop.time() * 1000)
        self._history.writes.append(Written(at_ms, self._author, self.name, event.type, storage, event.item.object))

    # Watches

    def open_watch(self, request: Request) -> Watch:
        """Raises ServerError."""
        self._maybe_refuse()
        self._listed[_selected(request)] = None
        state = self.cluster.state
        state.advance(self.now())
        route = parse_route(request.path)
        resource = state.registry.find(route.group, route.version, route.plural) if route is not None else None
        if route is None or resource is None:
            raise no_such_path()
        return self.api.open_watch(cast("web.BaseRequest", request), route, resource, Watch)

    @property
    def bookmark_s(self) -> float:
        return self.api.settings.bookmark_seconds

    def opened(self, watch: Watch) -> None:
        self._watches[watch] = None

    def closed(self, watch: Watch) -> None:
        self._watches.pop(watch, None)

    # What is there

    def objects(self) -> dict[tuple[str, str, str], Json]:
        """Every object by storage, namespace and name."""
        return {
            (collection.name, key[0], key[1]): item.object
            for collection in self.cluster.state.store.collections()
            for key, item in collection.items.items()
        }

    def node(self, number: int) -> str:
        """One of the nodes that there are."""
        names = [name for _, name in self.cluster.state.store.collection("nodes").order]
        return names[number % len(names)] if names else ""

    def change(self, do: Callable[[Cluster], object]) -> None:
        """Something that happens to the cluster past its API."""
        self.cluster.state.advance(self.now())
        do(self.cluster)

    # Breaking

    def heal(self) -> None:
        was_silent = self.troubles.silent
        self.troubles = Troubles()
        self.down_until = 0.0
        self._cached.clear()
        if was_silent:
            for watch in self._watches:
                watch.catch_up()

    def go_stale(self, *, watches: bool) -> None:
        """The watch cache stands still from now on; what asks for the newest state is answered from the store."""
        self._cached = {
            (path, labels): self.handle(Request("GET", path, {"labelSelector": labels} if labels else {}, _HEADERS), "")
            for path, labels in self._listed
        }
        self.troubles.stale, self.troubles.silent = True, watches

    @property
    def silent(self) -> bool:
        return self.troubles.silent

    def go_away(self, seconds: float) -> None:
        """The server answers nobody for a while, and every watch breaks."""
        self.down_until = max(self.down_until, self._loop.time() + seconds)
        self.drop_watches()

    def drop_watches(self) -> None:
        for watch in tuple(self._watches):
            watch.abort()

    def forget(self) -> None:
        """Compaction of the server's storage: watches from any earlier version are 410."""
        store = self.cluster.state.store
        for collection in store.collections():
            collection.forget_events(store.version)


def headers(content_type: str) -> CIMultiDict[str]:
    return CIMultiDict({"Accept": "application/json", "Content-Type": content_type, "User-Agent": "flotilla"})


def _selected(request: Request) -> tuple[str, str]:
    return request.path, request.query.get("labelSelector", "")


_HEADERS = headers("application/json")
