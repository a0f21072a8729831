"""What answers a webhook of node groups, as its OpenAPI document says. Its nodes are names that join at once."""

from __future__ import annotations

import hmac
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import yaml
from aiohttp import web

from shared.adapters.clock import SystemClock
from shared.adapters.node_groups.webhook import WebhookProvider, signature
from shared.events.v1.clusters import WebhookGroup
from shared.model.node_groups import NodeRef
from tests.contract.node_groups.beds import Bed

KEY: Final = b"a key that both have"
DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "node-group-webhook.yaml"
_TYPES: Final = {"string": str, "integer": int, "array": list, "object": dict, "boolean": bool}


class Webhook:
    """`failing` says with which statuses the next requests are answered, after they were carried out."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.size = 0
        self.sold_out = False
        self.nodes: dict[str, bool] = {}
        self.failing: list[int] = []
        self.orders: list[str] = []
        self._numbers = itertools.count(1)
        self._document = yaml.safe_load(DOCUMENT.read_text())

    def application(self) -> web.Application:
        application = web.Application()
        for path in self._document["paths"]:
            application.router.add_post(path, self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        timestamp = request.headers["Flotilla-Timestamp"]
        signed = hmac.compare_digest(request.headers["Flotilla-Signature"], signature(KEY, timestamp, body))
        if not signed or abs(time.time() - int(timestamp)) > 300:
            return web.json_response({"message": "not signed by whom I know"}, status=401)
        asked = orjson.loads(body)
        self._check(request.path, asked)
        assert request.headers["Flotilla-Order-Id"] == asked["orderId"]
        self.orders.append(asked["orderId"])
        if asked["group"] != self.group:
            return web.json_response({"message": "no such group"}, status=404)
        answer = getattr(self, f"_{request.path.strip('/')}")(asked)
        if self.failing:
            return web.Response(status=self.failing.pop(0))
        return web.json_response(answer)

    def _check(self, path: str, asked: dict[str, Any]) -> None:
        """The request is what the document says that requests of the path are."""
        content = self._document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        schema = self._document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        assert asked.keys() == set(schema["required"]) == schema["properties"].keys()
        for name, value in asked.items():
            assert isinstance(value, _TYPES[schema["properties"][name]["type"]]), name

    def _state(self, _: dict[str, Any]) -> dict[str, Any]:
        nodes = [{"name": name, "leaving": leaving} for name, leaving in self.nodes.items()]
        lacking = self.sold_out and self.size > len(self.nodes)
        return {
            "size": self.size,
            "nodes": nodes,
            **({"reason": "OutOfStock", "message": "none left"} if lacking else {}),
        }

    def _resize(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.size = asked["size"]
        for name in [name for name, leaving in self.nodes.items() if leaving][: len(self.nodes) - self.size]:
            del self.nodes[name]
        while len(self.nodes) < self.size and not self.sold_out:
            self.nodes[f"machine-{next(self._numbers):03}"] = False
        return {}

    def _remove(self, asked: dict[str, Any]) -> dict[str, Any]:
        named = {node["name"] for node in asked["nodes"]}
        self.nodes = {name: name in named for name in self.nodes}
        return {}


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    """The URL at which it listens."""
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def provider_at(
    url: str, session: aiohttp.ClientSession, key_file: Path, group: str, deadline_s: float = 20.0
) -> WebhookProvider:
    where = WebhookGroup(url=url, secret="nodes")
    return WebhookProvider(session, SystemClock(), where, key_file, cluster="east", group=group, deadline_s=deadline_s)


@asynccontextmanager
async def webhook(directory: Path, group: str) -> AsyncIterator[Bed]:
    key_file = directory / "nodes"
    key_file.write_bytes(KEY + b"\n")
    answering = Webhook(group)

    async def nodes() -> list[NodeRef]:
        return [NodeRef(name) for name in answering.nodes]

    def sell_out() -> None:
        answering.sold_out = True

    async with aiohttp.ClientSession() as session, serving(answering.application()) as url:
        yield Bed(
            provider_at(url, session, key_file, group),
            nodes,
            provider_at("http://127.0.0.1:9", session, key_file, group),
            provider_at(url, session, key_file, "no-such-group"),
            sell_out,
        )
