"""What a container's health check says of a service that is ready, is not, is silent or cannot be asked."""

from __future__ import annotations

import asyncio
import socket

import pytest

from shared.runtime.health import HealthServer
from shared.runtime.probe import NOT_READY, READY, probe
from shared.runtime.service import Readiness


async def ask(readiness: Readiness, path: str = "/readyz", host: str = "127.0.0.1") -> tuple[int, str]:
    async with HealthServer(host, 0, lambda: readiness) as server:
        environment = {"FLOTILLA_HTTP_HOST": host, "FLOTILLA_HTTP_PORT": server.url.rpartition(":")[2]}
        return await asyncio.to_thread(probe, environment, path)


async def test_a_service_that_is_ready() -> None:
    assert await ask(Readiness(ready=True)) == (READY, "ok")


async def test_one_that_listens_on_all_addresses_is_asked_on_loopback() -> None:
    assert await ask(Readiness(ready=True), host="0.0.0.0") == (READY, "ok")


async def test_one_that_is_not_ready_says_why() -> None:
    assert await ask(Readiness(ready=False, reason="no broker")) == (NOT_READY, "no broker")


async def test_liveness_is_another_question() -> None:
    assert await ask(Readiness(ready=False, reason="no broker"), "/healthz") == (READY, "ok")


def test_nobody_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code, answer = probe({"FLOTILLA_HTTP_PORT": str(taken.getsockname()[1])}, "/readyz")
    assert code == NOT_READY
    assert "does not answer" in answer


@pytest.mark.parametrize("port", ["", "0", "-1", "http"])
def test_a_port_that_nobody_can_ask(port: str) -> None:
    code, answer = probe({"FLOTILLA_HTTP_PORT": port}, "/readyz")
    assert code == NOT_READY
    assert "FLOTILLA_HTTP_PORT" in answer
