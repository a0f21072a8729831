"""The Kubernetes API of one cluster: HTTP requests to operations of the core, and their results back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from aiohttp import web

from services.simulator import asked_metrics
from services.simulator.asked_metrics import MetricValue
from services.simulator.core.deleting import delete, delete_collection
from services.simulator.core.errors import (
    ApiError,
    bad_request,
    forbidden_field,
    invalid_options,
    method_not_allowed,
    no_such_path,
)
from services.simulator.core.identity import Target
from services.simulator.core.meta import Json
from services.simulator.core.options import WriteOptions, Written
from services.simulator.core.patching import apply, patch
from services.simulator.core.reading import Page, get_item, list_items
from services.simulator.core.resources import Resource
from services.simulator.core.state import PODS, ClusterState
from services.simulator.core.store import Item
from services.simulator.core.subresources import create_binding, evict, scale_of, update_scale
from services.simulator.core.tables import partial, table
from services.simulator.core.writing import create, update
from services.simulator.http import bodies, documents
from services.simulator.http.negotiation import Representation, negotiate
from services.simulator.http.responses import (
    created_status,
    json_response,
    list_body,
    list_metadata,
    raw_of,
    raw_response,
    success,
)
from services.simulator.http.routes import (
    APPLY_OPTIONS,
    Route,
    delete_options,
    is_true,
    list_options,
    parse_route,
    whole_number,
    write_options,
)
from services.simulator.http.watching import Encoders, WatchSession
from services.simulator.load import LoadProfile
from services.simulator.metrics import metrics_items

_DEFAULT_WATCH_SECONDS = 1800.0
_METRICS = "metrics.k8s.io"
_OPTIONS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}
_REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectreviews"})


Session = TypeVar("Session", bound=WatchSession)


def watch_seconds(query: Mapping[str, str]) -> float:
    """How long a watch lasts."""
    return whole_number(query.get("timeoutSeconds") or "0") or _DEFAULT_WATCH_SECONDS


@dataclass(slots=True)
class WatchSettings:
    queue_limit: int = 10_000
    bookmark_seconds: float = 60.0


@dataclass(slots=True)
class KubernetesApi:
    """Serves one cluster. `sessions` are the watches that are open, for faults and shutdown."""

    state: ClusterState
    load: LoadProfile
    settings: WatchSettings
    sessions: set[WatchSession] = field(default_factory=set)
    stale_version: int | None = None
    """When set, lists that allow it are answered from this earlier version."""

    metric_values: tuple[MetricValue, ...] = ()
    """What `custom.metrics.k8s.io` and `external.metrics.k8s.io` say; without any they are not served."""

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        parts = [part for part in path.split("/") if part]
        if self.metric_values and asked_metrics.serves(parts):
            if request.method not in {"GET", "HEAD"}:
                raise method_not_allowed()
            return json_response(asked_metrics.answer(self.state, self.metric_values, parts, request.query))
        route = parse_route(path)
        if route is None:
            if request.method not in {"GET", "HEAD"}:
                raise method_not_allowed()
            return documents.serve(self.state, path, request)
        resource = self.state.registry.find(route.group, route.version, route.plural)
        if resource is None:
            if route.group not in self.state.registry.groups():
                return documents.unknown_group()
            raise no_such_path()
        if route.namespace and not resource.namespaced:
            raise no_such_path()
        if route.subresource:
            return await self._subresource(request, route, resource)
        return await self._main(request, route, resource)

    async def _main(self, request: web.BaseRequest, route: Route, resource: Resource) -> web.StreamResponse:
        if resource.group == _METRICS:
            return self._metrics(request, route, resource)
        if request.method not in {"GET", "HEAD"}:
            return await self._write(request, route, resource)
        if is_true(request.query, "watch"):
            return await self._watch(request, route, resource)
        return self._get(request, route, resource) if route.name else self._list(request, route, resource)

    async def _write(self, request: web.BaseRequest, route: Route, resource: Resource) -> web.Response:
        method = request.method
        target = Target(resource, route.namespace, route.name)
        if resource.namespaced and not route.namespace and method != "DELETE":
            raise method_not_allowed()
        if method == "POST" and not route.name:
            return await self._create(request, target)
        if method == "PUT" and route.name:
            body = await bodies.read_body(request)
            return self._written(request, resource, update(self.state, target, body, self._options(request)))
        if method == "PATCH" and route.name:
            return await self._patch(request, target)
        if method == "DELETE":
            return await self._delete(request, route, target)
        raise method_not_allowed()

    def _options(self, request: web.BaseRequest, kind: str = "") -> WriteOptions:
        chosen = kind or _OPTIONS[request.method]
        return write_options(chosen, request.query, request.headers.get("User-Agent", ""))

    async def _create(self, request: web.BaseRequest, target: Target) -> web.Response:
        body = await bodies.read_body(request)
        if target.resource.plural in _REVIEWS:
            return json_response(documents.review(target.resource, body), 201)
        if target.resource.kind == "Binding":
            name = (body.get("metadata") or {}).get("name", "")
            pods = self.state.registry.find("", "v1", PODS)
            assert pods is not None
            create_binding(self.state, Target(pods, target.namespace, name), body, self._options(request))
            return json_response(created_status(), 201)
        return self._written(request, target.resource, create(self.state, target, body, self._options(request)))

    async def _patch(self, request: web.BaseRequest, target: Target) -> web.Response:
        content_type = bodies.media_type(request)
        accepted = [kind for kind in bodies.PATCHES if not (target.resource.custom and "strategic" in kind)]
        if content_type not in accepted:
            raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        body = await bodies.read_body(request)
        if content_type == bodies.APPLY:
            written = apply(self.state, target, body, self._options(request, APPLY_OPTIONS))
        else:
            written = patch(self.state, target, content_type, body, self._options(request))
        return self._written(request, target.resource, written)

    async def _delete(self, request: web.BaseRequest, route: Route, target: Target) -> web.Response:
        body = await bodies.read_optional(request)
        options = delete_options(request.query, body if isinstance(body, dict) else None)
        resource = target.resource
        if not route.name:
            wanted = list_options(resource, route.namespace, "", request.query).filter
            items = delete_collection(self.state, resource, wanted, options)
            return raw_response(list_body(resource, Page(items, self.state.store.version)))
        deleted = delete(self.state, target, options)
        if deleted.gone:
            return json_response(success(resource, route.name, deleted.object["metadata"]["uid"]))
        return json_response(deleted.object)

    def _written(self, request: web.BaseRequest, resource: Resource, written: Written) -> web.Response:
        status = 201 if written.created else 200
        shown = negotiate(request.headers.get("Accept", ""))
        if shown.kind:
            return json_response(self._shown(resource, written.item, shown, request.query), status, written.warnings)
        return raw_response(raw_of(resource, written.item), status, written.warnings)

    def _shown(self, resource: Resource, item: Item, shown: Representation, query: Mapping[str, str]) -> Json:
        if shown.kind == "Table":
            metadata = {"resourceVersion": str(item.version)}
            include = query.get("includeObject", "Metadata")
            return table(resource, [item.object], metadata, self.state.now, include)
        return partial(item.object)

    def _get(self, request: web.BaseRequest, route: Route, resource: Resource) -> web.Response:
        item = get_item(self.state, resource, route.namespace, route.name)
        shown = negotiate(request.headers.get("Accept", ""))
        if shown.kind:
            return json_response(self._shown(resource, item, shown, request.query))
        return raw_response(raw_of(resource, item))

    def _list(self, request: web.BaseRequest, route: Route, resource: Resource) -> web.Response:
        shown = negotiate(request.headers.get("Accept", ""))
        options = list_options(resource, route.namespace, "", request.query)
        if self.stale_version is not None and options.may_be_stale:
            options = replace(options, version=str(self.stale_version), match="Exact")
        return self._page(request, resource, list_items(self.state, resource, options), shown)

    def _page(self, request: web.BaseRequest, resource: Resource, page: Page, shown: Representation) -> web.Response:
        metadata = list_metadata(page)
        objects = (item.object for item in page.items)
        if shown.kind == "Table":
            include = request.query.get("includeObject", "Metadata")
            return json_response(table(resource, objects, metadata, self.state.now, include))
        if shown.kind:
            return json_response(
                {
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                    "items": [partial(obj) for obj in objects],
                }
            )
        return raw_response(list_body(resource, page))

    async def _watch(self, request: web.BaseRequest, route: Route, resource: Resource) -> web.StreamResponse:
        session = self.open_watch(request, route, resource, WatchSession)
        return await self._stream(request, session, watch_seconds(request.query))

    def open_watch(
        self, request: web.BaseRequest, route: Route, resource: Resource, kind: Callable[..., Session]
    ) -> Session:
        """A watch that has begun: what it missed is queued, what comes will be. Raises ApiError."""
        query = request.query
        options = list_options(resource, route.namespace, route.name, query)
        initial = is_true(query, "sendInitialEvents")
        if initial and options.match != "NotOlderThan":
            detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise invalid_options("ListOptions", forbidden_field("resourceVersionMatch", detail))
        include = query.get("includeObject", "Metadata")
        session = kind(
            self.state,
            resource,
            options.filter,
            Encoders(self.state, resource, negotiate(request.headers.get("Accept", "")), include),
            queue_limit=self.settings.queue_limit,
            bookmarks=is_true(query, "allowWatchBookmarks"),
        )
        session.start(options.version, initial_events=initial)
        return session

    async def _stream(self, request: web.BaseRequest, session: WatchSession, seconds: float) -> web.StreamResponse:
        self.sessions.add(session)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            response.enable_chunked_encoding()
            await response.prepare(request)
            ended = await session.stream(response, seconds, self.settings.bookmark_seconds)
            if not ended and request.transport is not None:
                request.transport.abort()
        except (ConnectionResetError, BrokenPipeError):
            pass  # the watcher went away, which is how most watches end
        finally:
            session.stop()
            self.sessions.discard(session)
        return response

    def _metrics(self, request: web.BaseRequest, route: Route, resource: Resource) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            raise method_not_allowed()
        options = list_options(resource, route.namespace, route.name, request.query)
        items = [Item(obj, self.state.store.version) for obj in metrics_items(self.state, self.load, resource)]
        found = [item for item in items if options.filter.matches(item)]
        if not route.name:
            return self._page(
                request, resource, Page(found, self.state.store.version), negotiate(request.headers.get("Accept", ""))
            )
        if not found:
            raise ApiError(404, "NotFound", f'{resource.qualified} "{route.name}" not found')
        return raw_response(found[0].raw)

    async def _subresource(self, request: web.BaseRequest, route: Route, resource: Resource) -> web.StreamResponse:
        target = Target(resource, route.namespace, route.name, route.subresource)
        if route.subresource == "status" and resource.status:
            return await self._status(request, route, target)
        if route.subresource == "scale" and resource.scale is not None:
            return await self._scale(request, route, target)
        if route.subresource == "finalize" and resource.storage == "namespaces" and request.method == "PUT":
            return await self._finalize(request, target)
        if resource.storage == PODS and route.subresource == "log":
            get_item(self.state, resource, route.namespace, route.name)
            return web.Response(text="This pod is simulated: nothing runs in it, so it writes nothing.\n")
        if request.method != "POST" or route.subresource not in {entry[0] for entry in resource.subresources}:
            raise no_such_path()
        body = await bodies.read_body(request)
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized")
        run = create_binding if route.subresource == "binding" else evict
        run(self.state, target, body, self._options(request))
        return json_response(created_status(), 201)

    async def _status(self, request: web.BaseRequest, route: Route, target: Target) -> web.Response:
        if request.method == "GET":
            return self._get(request, route, target.resource)
        if request.method == "PATCH":
            return await self._patch(request, target)
        if request.method != "PUT":
            raise method_not_allowed()
        body = await bodies.read_body(request)
        return self._written(request, target.resource, update(self.state, target, body, self._options(request)))

    async def _scale(self, request: web.BaseRequest, route: Route, target: Target) -> web.Response:
        if request.method == "GET":
            item = get_item(self.state, target.resource, route.namespace, route.name)
            return json_response(scale_of(target.resource, item.object))
        content_type = bodies.media_type(request) if request.method == "PATCH" else None
        if request.method not in {"PATCH", "PUT"} or content_type == bodies.APPLY:
            raise method_not_allowed()
        body = await bodies.read_body(request)
        return json_response(update_scale(self.state, target, content_type, body, self._options(request)))

    async def _finalize(self, request: web.BaseRequest, target: Target) -> web.Response:
        body = await bodies.read_body(request)
        item = get_item(self.state, target.resource, "", target.name)
        spec = {**(item.object.get("spec") or {}), "finalizers": (body.get("spec") or {}).get("finalizers") or []}
        obj = {**item.object, "spec": spec}
        stored = self.state.store.replace(target.resource.storage, obj)
        if not spec["finalizers"] and "deletionTimestamp" in obj["metadata"] and not obj["metadata"].get("finalizers"):
            self.state.store.remove(target.resource.storage, ("", target.name))
        return raw_response(stored.raw)
