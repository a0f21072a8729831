"""`/healthz`, `/readyz` and `/metrics` of a service, beside whatever else it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from shared.observability.metrics import Gauge

if TYPE_CHECKING:
    from shared.runtime.service import Readiness

READY: Final = Gauge("flotilla_service_ready", "1 while /readyz says that the service can do its work")
BUILD: Final = Gauge("flotilla_build_info", "Always 1: which service this is, and its version", ("service", "version"))


def tell_build(service: str) -> None:
    """Says in the metrics which service this process is. A tree that was never installed has no version."""
    try:
        number = version("flotilla")
    except PackageNotFoundError:
        number = "unknown"
    BUILD.labels(service, number).set(1)


def add_health_routes(app: web.Application, readiness: Callable[[], Readiness]) -> None:
    """Adds the three routes to an application."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        state = readiness()
        return web.Response(text="ok\n" if state.ready else f"{state.reason}\n", status=200 if state.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        READY.set(readiness().ready)
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)


class HealthServer:
    """Serves the three routes, and the service's own, while it is entered."""

    def __init__(
        self,
        host: str,
        port: int,
        readiness: Callable[[], Readiness],
        routes: Iterable[web.AbstractRouteDef] = (),
    ) -> None:
        self._host, self._port = host, port
        app = web.Application()
        app.router.add_routes(routes)
        add_health_routes(app, readiness)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)

    @property
    def url(self) -> str:
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
