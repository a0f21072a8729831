"""An extension API server for `metrics.k8s.io/v1beta1`, behind the real aggregator; and for the groups of custom and
external metrics, which say what the simulator would (`services.simulator.asked_metrics`).

Discovery, node and pod metrics, one by one and as lists with label selectors. It keeps nothing: each request reads the
load profile or the values and lists the nodes and pods that it is about. Except for `/readyz`, only the front proxy is
let in, so who a request is from, and whether RBAC lets them, was settled in the API server.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import signal
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from services.simulator import asked_metrics
from services.simulator.core.errors import ApiError as Refused
from tests.testbed.api import Api, ApiError
from tests.testbed.load import GROUP_VERSION, LoadProfile, is_running, node_metrics, pod_metrics
from tests.testbed.pki import KeyPair

VERSION: Final = {"groupVersion": GROUP_VERSION, "version": "v1beta1"}
GROUP: Final = {"name": "metrics.k8s.io", "versions": [VERSION], "preferredVersion": VERSION}
RESOURCES: Final = [
    {"name": "nodes", "singularName": "", "namespaced": False, "kind": "NodeMetrics", "verbs": ["get", "list"]},
    {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]},
]
ROOT: Final = f"/apis/{GROUP_VERSION}"


class MetricsServer:
    """The handlers; `load` is the file of the profile, which need not exist, `asked` that of custom and external
    metrics.
    """

    def __init__(self, api: Api, load: Path, asked: Path) -> None:
        self._api = api
        self._load = load
        self._asked = asked

    def application(self) -> web.Application:
        application = web.Application(middlewares=[_guard])
        application.add_routes(
            [
                web.get("/readyz", self._ready),
                web.get("/apis", self._groups),
                web.get("/apis/metrics.k8s.io", self._group),
                web.get(ROOT, self._resources),
                web.get(f"{ROOT}/nodes", self._nodes),
                web.get(f"{ROOT}/nodes/{{name}}", self._node),
                web.get(f"{ROOT}/pods", self._pods),
                web.get(f"{ROOT}/namespaces/{{namespace}}/pods", self._pods),
                web.get(f"{ROOT}/namespaces/{{namespace}}/pods/{{name}}", self._pod),
                *(web.get(f"/apis/{g}/{v}", self._asked_for) for g, v in asked_metrics.versions()),
                *(web.get(f"/apis/{g}/{v}/{{rest:.+}}", self._asked_for) for g, v in asked_metrics.versions()),
            ]
        )
        return application

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _groups(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": [GROUP]})

    async def _group(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "APIGroup", "apiVersion": "v1", **GROUP})

    async def _resources(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": RESOURCES}
        )

    async def _nodes(self, request: web.Request) -> web.Response:
        nodes = await self._list("/api/v1/nodes", request)
        pods = await self._list("/api/v1/pods")
        now, profile = _now(), self._profile()
        return _list_response("NodeMetricsList", [node_metrics(node, pods, profile, now) for node in nodes])

    async def _node(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        node = await self._api.call("GET", f"/api/v1/nodes/{name}")
        pods = await self._list("/api/v1/pods", {"fieldSelector": f"spec.nodeName={name}"})
        return web.json_response(node_metrics(node, pods, self._profile(), _now()))

    async def _pods(self, request: web.Request) -> web.Response:
        namespace = request.match_info.get("namespace")
        path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        now, profile = _now(), self._profile()
        pods = await self._list(path, request)
        return _list_response("PodMetricsList", [pod_metrics(pod, profile, now) for pod in pods])

    async def _pod(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        pod = await self._api.call("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        if not is_running(pod):
            raise ApiError(404, f"no metrics of pod {namespace}/{name}, which does not run")
        return web.json_response(pod_metrics(pod, self._profile(), _now()))

    async def _asked_for(self, request: web.Request) -> web.Response:
        parts = request.path.strip("/").split("/")
        values = asked_metrics.MetricValues.model_validate_json(self._asked.read_bytes()).values
        pods = await self._list("/api/v1/pods") if "pods" in parts else []
        seen = _Seen(_now().timestamp(), pods)
        return web.json_response(asked_metrics.answer(seen, values, parts, request.query))

    async def _list(self, path: str, source: web.Request | Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Nodes, or the pods that run, by the selectors of a request."""
        query = source.query if isinstance(source, web.Request) else source or {}
        selectors = {key: query[key] for key in ("labelSelector", "fieldSelector") if key in query}
        listed = await self._api.call("GET", f"{path}?{urlencode(selectors)}")
        return [item for item in listed["items"] if path.endswith("/nodes") or is_running(item)]

    def _profile(self) -> LoadProfile:
        if not self._load.exists():
            return LoadProfile()
        return LoadProfile.model_validate_json(self._load.read_bytes())


@dataclass(frozen=True, slots=True)
class _Pod:
    object: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Seen:
    """As much of the cluster as custom metrics are about."""

    now: float
    pods: list[dict[str, Any]]

    def items(self, storage: str, namespace: str = "") -> list[_Pod]:
        del storage  # of nothing but pods
        return [_Pod(pod) for pod in self.pods if pod["metadata"]["namespace"] == namespace]


@web.middleware
async def _guard(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse who is not the front proxy; say errors as a Status object, which Kubernetes clients expect."""
    if request.path != "/readyz" and request.get_extra_info("peercert") is None:
        return _failure(401, "only the front proxy may ask")
    try:
        response: web.StreamResponse = await handler(request)
    except Refused as error:
        return _failure(error.code, str(error))
    except (ApiError, web.HTTPException) as error:
        return _failure(error.status, str(error))
    return response


def _failure(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    if code == 404:
        body["reason"] = "NotFound"
    return web.json_response(body, status=code)


def _list_response(kind: str, items: list[dict[str, Any]]) -> web.Response:
    return web.json_response({"kind": kind, "apiVersion": GROUP_VERSION, "metadata": {}, "items": items})


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    api = Api(options.server, options.authority, KeyPair(options.certificate, options.key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.serving_certificate, options.serving_key)
    context.load_verify_locations(options.front_proxy_authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    runner = web.AppRunner(MetricsServer(api, options.load, options.asked).application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port, ssl_context=context, reuse_port=True).start()
        await stopped.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="metrics.k8s.io for a test cluster")
    parser.add_argument("--server", required=True, help="URL of the API server")
    parser.add_argument("--port", type=int, required=True)
    for path in ("authority", "certificate", "key", "serving-certificate", "serving-key", "front-proxy-authority"):
        parser.add_argument(f"--{path}", type=Path, required=True)
    parser.add_argument("--load", type=Path, required=True, help="the load profile (JSON), read at each request")
    parser.add_argument("--asked", type=Path, required=True, help="custom and external metrics (JSON), likewise")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
