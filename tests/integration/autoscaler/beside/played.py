"""`metrics.k8s.io` of a real cluster, served by the test: each request is an evaluation of the HorizontalPodAutoscaler.

The controller asks once for each metric that it looks at, and one autoscaler at a time, so a request that comes after
the last one of an evaluation says that this evaluation is over. Whoever answers may take the time that it needs: until
it has, the next evaluation does not go on.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.testbed import RealCluster, metrics
from tests.testbed.load import GROUP_VERSION
from tests.testbed.metrics_server import GROUP, RESOURCES, ROOT

Json = dict[str, Any]
# PodMetrics objects for a label selector, or None: no answer is to be had.
Answer = Callable[[str], Awaitable[list[Json] | None]]
_AVAILABLE_S = 60.0


@asynccontextmanager
async def played_metrics(cluster: RealCluster, answer: Answer) -> AsyncIterator[None]:
    """Serves while it is entered, behind the cluster's own aggregator."""
    application = web.Application()
    application.add_routes(
        [
            web.get("/apis", _say({"kind": "APIGroupList", "apiVersion": "v1", "groups": [GROUP]})),
            web.get("/apis/metrics.k8s.io", _say({"kind": "APIGroup", "apiVersion": "v1", **GROUP})),
            web.get(ROOT, _say(_resources())),
            web.get(f"{ROOT}/namespaces/default/pods", _pods(answer)),
        ]
    )
    layout = cluster.layout
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(layout.server.certificate, layout.server.key)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        await metrics.register(cluster.api, layout.authority.certificate.read_bytes(), port)
        # An evaluation before that would fail without our knowledge.
        async with asyncio.timeout(_AVAILABLE_S):
            while not await metrics.available(cluster.api):  # noqa: ASYNC110 - the API server has to be asked
                await asyncio.sleep(0.1)
        yield
    finally:
        await runner.cleanup()


def pod_metrics(name: str, labels: Json, at_s: int, cpu_milli: int, memory_kib: int) -> Json:
    """A PodMetrics object of one container, measured over a second."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
    return {
        "kind": "PodMetrics",
        "apiVersion": GROUP_VERSION,
        "metadata": {"name": name, "namespace": "default", "labels": labels, "creationTimestamp": moment},
        "timestamp": moment,
        "window": "1s",
        "containers": [{"name": "main", "usage": {"cpu": f"{cpu_milli}m", "memory": f"{memory_kib}Ki"}}],
    }


def _pods(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        items = await answer(request.query.get("labelSelector", ""))
        if items is None:
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503, "message": "out of order"}
            return web.json_response(body, status=503)
        return web.json_response(
            {"kind": "PodMetricsList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": items}
        )

    return handle


def _say(body: Json) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(body)

    return handle


def _resources() -> Json:
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": RESOURCES}
