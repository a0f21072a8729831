"""From `build` to exit code: the one way in which a service becomes a process.

The first SIGTERM or SIGINT asks the service to drain: it finishes what it holds and returns. A second one, or a drain
beyond its time, ends the process at once, which loses nothing either, since the log holds all that was promised.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from aiohttp import web
from pydantic import ValidationError

from shared.observability.logs import configure_logs, get_logger
from shared.runtime.health import HealthServer, tell_build
from shared.runtime.heap import relax
from shared.runtime.settings import CommonSettings

log = get_logger(__name__)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DRAIN_TIMEOUT = 3
EXIT_SECOND_SIGNAL = 130


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a service can do its work, and if not, why."""

    ready: bool
    reason: str = ""


class Service(Protocol):
    """A service, wired and not yet running."""

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, then drains and returns. Raises what it cannot heal."""

    def readiness(self) -> Readiness: ...


@runtime_checkable
class WebService(Service, Protocol):
    """A service that serves more than its health, on the same port."""

    def routes(self) -> Iterable[web.AbstractRouteDef]: ...


S = TypeVar("S", bound=CommonSettings)
Build = Callable[[S, AsyncExitStack], Awaitable[Service]]


def main(name: str, settings_type: type[S], build: Build[S]) -> None:
    """Runs one service to its end and exits the process.

    `build(settings, stack)` makes the service; what it opens it pushes on the stack, which closes behind the service.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(help_text(name, settings_type))
        sys.exit(0)
    try:
        settings = settings_type()
    except ValidationError as error:
        for item in error.errors(include_url=False):
            variable = "FLOTILLA_" + "_".join(str(part) for part in item["loc"]).upper()
            # What is about several settings names them itself.
            sys.stderr.write(f"{variable}: {item['msg']}\n" if item["loc"] else f"{item['msg']}\n")
        sys.exit(EXIT_USAGE)
    configure_logs(name, level=settings.log_level, fmt=settings.log_format)
    tell_build(name)
    relax()
    sys.exit(asyncio.run(_run(name, settings, build)))


def help_text(name: str, settings_type: type[CommonSettings]) -> str:
    """What a service can be told, a variable each with its meaning and default."""
    lines = [
        f"usage: python -m services.{name}",
        "",
        "Runs until SIGTERM or SIGINT. Settings, as environment variables:",
        "",
    ]
    for field, info in settings_type.model_fields.items():
        default = "" if info.is_required() or info.default_factory else f" (default: {info.default!s})"
        lines += [f"  FLOTILLA_{field.upper()}", f"      {info.description}{default}"]
    return "\n".join(lines) + "\n"


async def _run(name: str, settings: S, build: Build[S]) -> int:
    stop = asyncio.Event()
    _install_signals(stop)
    async with AsyncExitStack() as stack:
        try:
            service = await build(settings, stack)
            if settings.http_port >= 0:
                routes = service.routes() if isinstance(service, WebService) else ()
                health = HealthServer(settings.http_host, settings.http_port, service.readiness, routes)
                await stack.enter_async_context(health)
                log.info("serving health and metrics", url=health.url)
            log.info("service started", name=name, pid=os.getpid())
            return await _until_stopped(service, stop, settings.drain_s)
        except Exception:
            log.exception("service failed", name=name)
            return EXIT_FAILED


async def _until_stopped(service: Service, stop: asyncio.Event, drain_s: float) -> int:
    running = asyncio.create_task(service.run(stop), name="service")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            log.info("draining", seconds=drain_s)
            await asyncio.wait({running}, timeout=drain_s)
        if not running.done():
            log.error("drain took too long", seconds=drain_s)
            return EXIT_DRAIN_TIMEOUT
        await running
        log.info("service stopped")
        return 0
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)


def _install_signals(stop: asyncio.Event) -> None:
    def on_signal() -> None:
        if stop.is_set():
            os._exit(EXIT_SECOND_SIGNAL)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
