"""A client that shows what was said: raw requests, raw answers, from a kubeconfig.

It shares nothing with the project's adapters nor with the simulator, because it judges both.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import yaml

Json = dict[str, Any]
Value = TypeVar("Value")

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str]

    def ok(self) -> Json:
        """The body of a success."""
        assert self.status < 300, self.body
        assert isinstance(self.body, dict)
        return self.body

    def refused(self, status: int, reason: str) -> Json:
        """The Status of a failure, which must be of this code and reason."""
        assert isinstance(self.body, dict), self.body
        assert (self.status, self.body.get("reason")) == (status, reason), self.body
        assert self.body["kind"] == "Status"
        assert self.body["status"] == "Failure"
        assert self.body["code"] == status
        return self.body


def _credentials(path: Path) -> tuple[str, ssl.SSLContext | None, dict[str, str]]:
    """(server, TLS context, headers) of the current context of a kubeconfig."""
    config = yaml.safe_load(path.read_text())
    context = next(e["context"] for e in config["contexts"] if e["name"] == config["current-context"])
    cluster = next(e["cluster"] for e in config["clusters"] if e["name"] == context["cluster"])
    user = next(e["user"] for e in config["users"] if e["name"] == context["user"]) or {}
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    if not cluster["server"].startswith("https"):
        return cluster["server"], None, headers
    with tempfile.TemporaryDirectory() as folder:

        def file(owner: Json, name: str) -> str | None:
            if f"{name}-data" in owner:
                target = Path(folder) / name
                target.write_bytes(base64.b64decode(owner[f"{name}-data"]))
                return str(target)
            given = owner.get(name)
            return str(path.parent / given) if given else None

        tls = ssl.create_default_context(cafile=file(cluster, "certificate-authority"))
        certificate = file(user, "client-certificate")
        if certificate:
            tls.load_cert_chain(certificate, file(user, "client-key"))
    return cluster["server"], tls, headers


class Kube:
    """One API server. `namespace` is the test's own."""

    def __init__(self, kubeconfig: Path, namespace: str = "") -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self._server, self._tls, self._headers = _credentials(kubeconfig)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls) if self._tls else aiohttp.TCPConnector()
        timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    def path(self, resource: str, name: str = "", subresource: str = "", namespace: str | None = None) -> str:
        """`pods` or `apps/v1/deployments` in the test's namespace, or with namespace="" outside of any."""
        group, _, plural = resource.rpartition("/")
        parts = ["/apis" if group else "/api", group or "v1"]
        space = self.namespace if namespace is None else namespace
        if space:
            parts += ["namespaces", space]
        return "/".join(filter(None, [*parts, plural, name, subresource]))

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: str = "application/json",
        accept: str = "application/json",
        agent: str = "contract/1",
        **query: Any,
    ) -> Answer:
        assert self._session is not None
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content, "Accept": accept, "User-Agent": agent}
        async with self._session.request(
            method, self._server + path, data=data, headers=headers, params=_text(query)
        ) as response:
            raw = await response.read()
            is_json = bool(raw) and "json" in response.headers.get("Content-Type", "")
            one = is_json and b"\n{" not in raw
            return Answer(response.status, json.loads(raw) if one else raw.decode(), dict(response.headers))

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: Any, **more: Any) -> Answer:
        return await self.call("POST", path, body, **more)

    async def put(self, path: str, body: Any, **more: Any) -> Answer:
        return await self.call("PUT", path, body, **more)

    async def delete(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.call("DELETE", path, body, **more)

    async def patch(self, path: str, body: Any, content: str = MERGE, **more: Any) -> Answer:
        return await self.call("PATCH", path, body, content=content, **more)

    async def apply(self, path: str, body: Any, manager: str, **more: Any) -> Answer:
        return await self.patch(path, body, APPLY, fieldManager=manager, **more)

    @asynccontextmanager
    async def watch(self, path: str, *, accept: str = "application/json", **query: Any) -> AsyncIterator[Watch]:
        """An open watch; it must have been accepted."""
        assert self._session is not None
        params = _text({"watch": "1", "timeoutSeconds": 20, **query})
        async with self._session.get(
            self._server + path, params=params, headers={"Accept": accept}, timeout=aiohttp.ClientTimeout(total=None)
        ) as response:
            assert response.status == 200, await response.text()
            yield Watch(response)

    async def until(self, path: str, holds: Callable[[Json], Any], within: float = _DEADLINE_S, **query: Any) -> Json:
        """Reads until something holds; what was read."""
        return await until(lambda: self._body(path, **query), holds, within)

    async def _body(self, path: str, **query: Any) -> Json:
        """The body; a text, as of a path that nobody serves yet, is as good as nothing."""
        body = (await self.get(path, **query)).body
        return body if isinstance(body, dict) else {}


async def until(
    read: Callable[[], Awaitable[Value]], holds: Callable[[Value], Any], within: float = _DEADLINE_S
) -> Value:
    loop = asyncio.get_running_loop()
    ends = loop.time() + within
    while True:
        body = await read()
        if holds(body):
            return body
        assert loop.time() < ends, f"not within {within} s; last: {body}"
        await asyncio.sleep(0.05)


class Watch:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._lines = response.content

    async def next(self, within: float = 30.0) -> Json | None:
        """The next event; None at the end of the stream."""
        line = await asyncio.wait_for(self._lines.readline(), within)
        return json.loads(line) if line.strip() else None

    async def rest(self, within: float = 30.0) -> list[Json]:
        """Every event until the server ends the stream."""
        found = []
        while (event := await self.next(within)) is not None:
            found.append(event)
        return found

    async def seen(self, kind: str, name: str) -> Json:
        """The first event of a kind about an object, skipping others."""
        while (event := await self.next()) is not None:
            if event["type"] == kind and event["object"]["metadata"]["name"] == name:
                return event
        raise AssertionError(f"the stream ended without {kind} {name}")


def _text(query: Json) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items()}
