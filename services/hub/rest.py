"""`GET /cluster` and `GET /workload`: the read model over HTTP, as the status service wrote it.

Lists come sorted by key, in pages: `limit` at most, and `continue` from the answer before. What changes between two
pages may or may not be seen; nothing is seen twice. What nobody has heard of for too long is not shown as healthy,
though the read model may still say so (`decision/staleness.py`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from services.hub.decision.staleness import is_overdue, shown_cluster, shown_workload
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE, ClusterView
from shared.events.v1.status import Phase, WorkloadStatus
from shared.model.names import label_key_error
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.key_value import KeyValue, KeyValueError

log = get_logger(__name__)

DEFAULT_LIMIT: Final = 500
MAX_LIMIT: Final = 5000

Keep = Callable[[str, dict[str, Any]], bool]
Show = Callable[[dict[str, Any]], dict[str, Any]]
Handler = Callable[[web.Request], Any]


class Rest:
    """The routes of the read model."""

    def __init__(self, store: KeyValue, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/cluster", self._answer(self._clusters)),
            web.get("/cluster/{name}", self._answer(self._cluster)),
            web.get("/workload", self._answer(self._workloads)),
            web.get("/workload/{namespace}/{name}", self._answer(self._workload)),
            web.get("/openapi.json", _openapi),
        ]

    @staticmethod
    def _answer(handler: Handler) -> Handler:
        async def answered(request: web.Request) -> web.Response:
            try:
                body: bytes = await handler(request)
            except KeyValueError as error:
                log.warning("read model cannot be read", error=str(error))
                return _error(503, "Unavailable", "the read model cannot be read at the moment")
            except _BadQueryError as error:
                return _error(400, "BadRequest", str(error))
            except _NotThereError as error:
                return _error(404, "NotFound", str(error))
            return web.Response(body=body, content_type="application/json")

        return answered

    async def _clusters(self, request: web.Request) -> bytes:
        return await self._page(CLUSTERS_TABLE, request.query, _cluster_filter(request.query), self._show_cluster)

    async def _workloads(self, request: web.Request) -> bytes:
        keep = _workload_filter(request.query)
        return await self._page(WORKLOADS_TABLE, request.query, keep, await self._show_workload())

    async def _cluster(self, request: web.Request) -> bytes:
        return await self._one(CLUSTERS_TABLE, request.match_info["name"], self._show_cluster)

    async def _workload(self, request: web.Request) -> bytes:
        key = "{namespace}/{name}".format_map(request.match_info)
        return await self._one(WORKLOADS_TABLE, key, await self._show_workload())

    def _show_cluster(self, view: dict[str, Any]) -> dict[str, Any]:
        return shown_cluster(view, self._clock.now_ms())

    async def _show_workload(self) -> Show:
        """How workloads are shown now, given which clusters are not heard."""
        now_ms = self._clock.now_ms()
        views = [(key, orjson.loads(value)) async for key, value in self._store.items(CLUSTERS_TABLE)]
        overdue = frozenset(key for key, view in views if is_overdue(view, now_ms))
        return lambda status: shown_workload(status, overdue)

    async def _one(self, table: str, key: str, show: Show) -> bytes:
        value = await self._store.get(table, key)
        if value is None:
            raise _NotThereError(f"{table.removesuffix('s')} {key[:200]} is not known")
        return _shown(value, show)[0]

    async def _page(self, table: str, query: Mapping[str, str], keep: Keep | None, show: Show) -> bytes:
        limit, after = _limit(query), _after(query)
        items = sorted([(key, value) async for key, value in self._store.items(table) if key > after])
        taken: list[bytes] = []
        last = ""
        for key, value in items:
            shown, document = _shown(value, show)
            if keep is not None and not keep(key, document):
                continue
            if len(taken) == limit:
                token = base64.urlsafe_b64encode(last.encode()).decode()
                return _list(taken, token)
            taken.append(shown)
            last = key
        return _list(taken, "")


def _shown(value: bytes, show: Show) -> tuple[bytes, dict[str, Any]]:
    """As it is shown, in bytes and decoded: the very bytes of the read model where nothing had to be put right."""
    document = orjson.loads(value)
    shown = show(document)
    return (value, document) if shown is document else (orjson.dumps(shown), shown)


class _BadQueryError(ValueError):
    """The message says what is wrong with the query."""


class _NotThereError(LookupError):
    """The message says what is not there."""


def _cluster_filter(query: Mapping[str, str]) -> Keep | None:
    _only(query, {"label", "ready"})
    ready, label = query.get("ready"), query.get("label")
    if ready not in {None, "true", "false"}:
        raise _BadQueryError(f"ready={ready[:40]!r}: want true or false")
    key, equals, text = (label or "").partition("=")
    if label is not None and (not equals or label_key_error(key)):
        raise _BadQueryError(f"label={label[:200]!r}: want key=value")

    def keep(_: str, view: dict[str, Any]) -> bool:
        if ready is not None and view.get("ready") is not (ready == "true"):
            return False
        labels = (view.get("observed") or {}).get("labels") or {}
        return label is None or labels.get(key) == text

    return keep if ready is not None or label is not None else None


def _workload_filter(query: Mapping[str, str]) -> Keep | None:
    _only(query, {"namespace", "phase", "cluster"})
    namespace, cluster = query.get("namespace"), query.get("cluster")
    phases = set(query["phase"].split(",")) if "phase" in query else None
    if phases is not None and (unknown := phases - set(Phase)):
        raise _BadQueryError(f"phase={min(unknown)[:40]!r}: want {', '.join(Phase)}")

    def keep(key: str, status: dict[str, Any]) -> bool:
        if namespace is not None and key.partition("/")[0] != namespace:
            return False
        if phases is not None and status.get("phase") not in phases:
            return False
        return cluster is None or any(part.get("cluster") == cluster for part in status.get("clusters") or ())

    return keep if namespace is not None or phases is not None or cluster is not None else None


def _only(query: Mapping[str, str], filters: Iterable[str]) -> None:
    """A filter that is misspelt would select everything."""
    unknown = sorted(set(query) - {"limit", "continue", *filters})
    if unknown:
        raise _BadQueryError(f"unknown parameter {unknown[0][:80]!r}: want limit, continue, {', '.join(filters)}")


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(DEFAULT_LIMIT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= MAX_LIMIT:
        raise _BadQueryError(f"limit={text[:40]!r}: want 1 to {MAX_LIMIT}")
    return int(text)


def _after(query: Mapping[str, str]) -> str:
    try:
        return base64.b64decode(query.get("continue", ""), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise _BadQueryError("continue is none that was given out") from error


def _list(items: list[bytes], token: str) -> bytes:
    return b'{"items":[' + b",".join(items) + b'],"continue":' + orjson.dumps(token) + b"}"


def _error(status: int, reason: str, message: str) -> web.Response:
    body = orjson.dumps({"code": status, "reason": reason, "message": message})
    return web.Response(body=body, status=status, content_type="application/json")


async def _openapi(_: web.Request) -> web.Response:
    return web.Response(body=_DOCUMENT, content_type="application/json")


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1: its schemas are JSON Schemas, made from the models of the read model."""
    schemas: dict[str, Any] = {}
    for model in (ClusterView, WorkloadStatus):
        schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    return {
        "openapi": "3.1.0",
        "info": {"title": "Flotilla hub", "version": "v1", "description": "What the fleet has, read only."},
        "paths": {
            "/cluster": {"get": _list_operation("ClusterView", {"ready": "true or false", "label": "key=value"})},
            "/cluster/{name}": {"get": _get_operation("ClusterView", ("name",))},
            "/workload": {
                "get": _list_operation(
                    "WorkloadStatus",
                    {"namespace": "of the workload", "phase": "phases, by commas", "cluster": "that it has a part in"},
                )
            },
            "/workload/{namespace}/{name}": {"get": _get_operation("WorkloadStatus", ("namespace", "name"))},
        },
        "components": {"schemas": schemas},
    }


def _list_operation(model: str, filters: Mapping[str, str]) -> dict[str, Any]:
    paging = {"limit": f"at most so many, up to {MAX_LIMIT}", "continue": "where the page before ended"}
    page = {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{model}"}},
            "continue": {"type": "string", "description": "empty on the last page"},
        },
    }
    parameters = [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in (paging | dict(filters)).items()
    ]
    return {"parameters": parameters, "responses": {"200": _json(page), **_ERRORS}}


def _get_operation(model: str, names: Iterable[str]) -> dict[str, Any]:
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    body = {"$ref": f"#/components/schemas/{model}"}
    return {"parameters": parameters, "responses": {"200": _json(body), **_ERRORS}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}


_ERRORS: Final = {"4XX": {"description": "with code, reason and message"}, "503": {"description": "no read model"}}
_DOCUMENT: Final = orjson.dumps(openapi())
