"""The adapter against a server on loopback that answers as it is told: requests, credentials, deadlines, reconnects."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from shared.adapters.kubernetes import CredentialsError, KubernetesApi, ListWatchPolicy, credentials
from shared.model.identities import Resource
from shared.ports.cluster_api import ApiError, ApplyOptions, Change, ChangeType
from tests.testbed.secret_volume import SecretVolume
from tests.unit.kubernetes.builders import bookmark, event, page, pod, status

PODS = Resource("", "v1", "pods")
NODES = Resource("", "v1", "nodes")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
FAST = ListWatchPolicy(backoff_base_s=0.01, backoff_max_s=0.05, silence_s=0.3, streamed_list_silence_s=0.3)


class Server:
    """Answers with what `answers` says, in order, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answers: list[Answer] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    def then(self, body: Any, code: int = 200, **headers: str) -> Server:
        async def answer(_: web.Request) -> web.StreamResponse:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            return web.Response(body=raw, status=code, headers=headers)

        self.answers.append(answer)
        return self

    def then_stream(self, *chunks: bytes, last_s: float = 0.0, cut: bool = False) -> Server:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
                await asyncio.sleep(0.01)
            await asyncio.sleep(last_s)
            if cut and request.transport is not None:
                request.transport.abort()
            return response

        self.answers.append(answer)
        return self

    def kubeconfig(self, path: Path, **user: Any) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}/clusters/c"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": user}],
        }
        path.write_text(yaml.safe_dump(config))
        return path


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.port = runner.addresses[0][1]
    yield served
    await runner.cleanup()


@asynccontextmanager
async def connected(server: Server, directory: Path, **user: Any) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.from_kubeconfig(server.kubeconfig(directory / "config", **user), policy=FAST)
    try:
        yield api
    finally:
        await api.close()


async def take(api: KubernetesApi, count: int, within: float = 5) -> list[Change]:
    found: list[Change] = []
    async with asyncio.timeout(within), aclosing(api.list_watch(PODS)) as changes:
        async for change in changes:
            found.append(change)
            if len(found) == count:
                break
    return found


# Requests


async def test_paths_queries_and_bodies(server: Server, tmp_path: Path) -> None:
    server.then({"kind": "Pod"})
    async with connected(server, tmp_path) as api:
        await api.get(NODES, "", "n")
        await api.apply(PODS, "shop", "a", {"x": 1}, ApplyOptions("me", force=True, subresource="status", dry_run=True))
        await api.create(PODS, "shop", {"kind": "Binding"}, subresource="binding", name="a")
        await api.merge_patch(PODS, "shop", "a", {"x": None}, subresource="scale")
        await api.replace(PODS, "shop", "a b", {})
        await api.delete(PODS, "shop", "a", uid="u", grace_period_s=0)

    seen = [(request.method, request.path_qs, request.content_type) for request in server.requests]
    base = "/clusters/c/api/v1"
    assert seen == [
        ("GET", f"{base}/nodes/n", "application/octet-stream"),
        (
            "PATCH",
            f"{base}/namespaces/shop/pods/a/status?fieldManager=me&force=true&dryRun=All",
            "application/apply-patch+yaml",
        ),
        ("POST", f"{base}/namespaces/shop/pods/a/binding", "application/json"),
        ("PATCH", f"{base}/namespaces/shop/pods/a/scale", "application/merge-patch+json"),
        ("PUT", f"{base}/namespaces/shop/pods/a%20b", "application/json"),
        ("DELETE", f"{base}/namespaces/shop/pods/a", "application/json"),
    ]
    assert json.loads(server.bodies[-1]) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u"},
        "gracePeriodSeconds": 0,
    }


async def test_what_is_gone_is_deleted(server: Server, tmp_path: Path) -> None:
    server.then(status(404, "NotFound"), 404).then(status(409, "Conflict"), 409)
    async with connected(server, tmp_path) as api:
        await api.delete(PODS, "shop", "a")
        with pytest.raises(ApiError, match="409 Conflict"):
            await api.delete(PODS, "shop", "a", uid="other")


async def test_errors_carry_what_the_server_said(server: Server, tmp_path: Path) -> None:
    server.then(status(429, "TooManyRequests", "calm down"), 429, **{"Retry-After": "4"})
    async with connected(server, tmp_path) as api:
        with pytest.raises(ApiError) as caught:
            await api.get(PODS, "shop", "a")
    assert (caught.value.code, caught.value.message, caught.value.retry_after_s) == (429, "calm down", 4)


async def test_a_deadline_ends_a_call(server: Server, tmp_path: Path) -> None:
    server.then_stream(b"{", last_s=5)
    path = server.kubeconfig(tmp_path / "config")
    api = await KubernetesApi.from_kubeconfig(path, deadline_s=0.2)
    with pytest.raises(ApiError) as caught:
        await api.version()
    await api.close()
    assert (caught.value.code, caught.value.reason, caught.value.retryable) == (0, "Timeout", True)


async def test_nobody_listening_is_unreachable(server: Server, tmp_path: Path, unused_tcp_port: int) -> None:
    server.port = unused_tcp_port
    async with connected(server, tmp_path) as api:
        with pytest.raises(ApiError) as caught:
            await api.version()
    assert (caught.value.code, caught.value.reason) == (0, "Unreachable")


async def test_list_follows_pages_and_starts_over_when_they_expire(server: Server, tmp_path: Path) -> None:
    server.then(page(pod("a", 1), version=5, cont="t")).then(status(410, "Expired"), 410)
    server.then(page(pod("a", 1), pod("b", 2), version=6))
    async with connected(server, tmp_path) as api:
        found = await api.list(PODS)
    assert [(item["metadata"]["name"], item["kind"]) for item in found] == [("a", "Pod"), ("b", "Pod")]
    assert "limit" not in server.requests[-1].query


# Credentials


async def test_a_rotated_token_is_used_without_a_refusal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "CHECK_S", 0.0)
    token = tmp_path / "token"
    token.write_text("first\n")
    server.then({"gitVersion": "v1"})
    async with connected(server, tmp_path, tokenFile=str(token)) as api:
        await api.version()
        token.write_text("second\n")
        await api.version()
    assert [r.headers["Authorization"] for r in server.requests] == ["Bearer first", "Bearer second"]


async def test_a_refused_credential_is_read_again_and_the_call_repeated(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")

    async def check(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer second":
            return web.json_response({"gitVersion": "v1"})
        token.write_text("second")
        return web.json_response(status(401, "Unauthorized"), status=401)

    server.answers.append(check)
    async with connected(server, tmp_path, tokenFile=str(token)) as api:
        assert await api.version() == "v1"
    assert len(server.requests) == 2


async def test_a_credential_that_stays_refused_is_an_error(server: Server, tmp_path: Path) -> None:
    server.then(status(401, "Unauthorized"), 401)
    async with connected(server, tmp_path, token="wrong") as api:
        for _ in range(3):
            with pytest.raises(ApiError, match="401"):
                await api.version()
    assert len(server.requests) == 3


async def test_an_exec_plugin_gives_the_token_and_is_asked_again_when_refused(server: Server, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import json, pathlib\n"
        "count = pathlib.Path(__file__).with_suffix('.count')\n"
        "n = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(n))\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',\n"
        "  'status': {'token': f'token-{n}', 'expirationTimestamp': '2999-01-01T00:00:00Z'}}))\n"
    )

    async def check(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer token-2":
            return web.json_response({"gitVersion": "v1"})
        return web.json_response(status(401, "Unauthorized"), status=401)

    server.answers.append(check)
    spec = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(plugin)],
        "env": [{"name": "A", "value": "b"}],
    }
    async with connected(server, tmp_path, exec=spec) as api:
        assert await api.version() == "v1"
        assert await api.version() == "v1"
    assert plugin.with_suffix(".count").read_text() == "2"


async def test_a_rewritten_kubeconfig_is_followed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "CHECK_S", 0.0)
    server.then({"gitVersion": "v1"})
    async with connected(server, tmp_path, token="first") as api:
        await api.version()
        server.kubeconfig(tmp_path / "config", token="second-one")
        await api.version()
        (tmp_path / "config").unlink()
        await api.version()  # what cannot be read keeps what there was
    assert [r.headers["Authorization"] for r in server.requests] == [
        "Bearer first",
        "Bearer second-one",
        "Bearer second-one",
    ]


async def test_what_a_kubelet_only_writes_anew_is_not_read_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All keys of a Secret's volume are, when one of them changes: the connections of the others stay."""
    monkeypatch.setattr(credentials, "CHECK_S", 0.0)
    volume, path = SecretVolume(tmp_path / "mounted"), tmp_path / "mounted" / "west"
    config = server.kubeconfig(tmp_path / "config", token="first").read_bytes()
    volume.write({"west": config})
    held = await credentials.kubeconfig_credentials(path)
    access = await held.current()
    for others in ({"east": b"x"}, {"east": b"y"}, {}):
        before = path.stat()
        volume.write({"west": config, **others})
        assert (path.stat().st_ino, path.stat().st_mtime_ns) != (before.st_ino, before.st_mtime_ns)
        assert await held.current() is access
    volume.write({"west": config.replace(b"first", b"second")})
    assert (await held.current()).authorization == "Bearer second"


@pytest.mark.parametrize("text", ["", "{", "a: b", "clusters: 3", "apiVersion: v1\nkind: Config\ncurrent-context: x"])
async def test_a_kubeconfig_that_makes_no_sense_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(CredentialsError):
        await KubernetesApi.from_kubeconfig(path)
    with pytest.raises(CredentialsError):
        await KubernetesApi.from_kubeconfig(tmp_path / "absent")


async def test_in_cluster_outside_of_one_says_so() -> None:
    with pytest.raises(CredentialsError):
        await KubernetesApi.in_cluster()


# List and watch over the wire


async def test_a_cut_watch_goes_on_from_its_last_event(server: Server, tmp_path: Path) -> None:
    large = pod("a", 20, annotations={"note": "x" * 3_000_000})
    server.then(status(422, "Invalid"), 422).then(page(pod("a", 3), version=10))
    server.then_stream(event("MODIFIED", large), event("MODIFIED", pod("a", 21))[:40], cut=True)
    server.then_stream(event("MODIFIED", pod("a", 21)), last_s=5)
    async with connected(server, tmp_path) as api:
        changes = await take(api, 7)

    assert [change.type.value for change in changes] == [
        "SYNC_STARTED",
        "LISTED",
        "SYNC_FINISHED",
        "MODIFIED",
        "INTERRUPTED",
        "RESUMED",
        "MODIFIED",
    ]
    assert len(changes[3].raw) > 3_000_000
    assert server.requests[-1].query["resourceVersion"] == "20"


async def test_a_silent_watch_is_opened_again(server: Server, tmp_path: Path) -> None:
    server.then_stream(bookmark(10, ends_list=True), last_s=30)
    server.then_stream(event("ADDED", pod("a", 11)), last_s=30)
    async with connected(server, tmp_path) as api:
        changes = await take(api, 3)

    assert [change.type for change in changes] == [ChangeType.SYNC_STARTED, ChangeType.SYNC_FINISHED, ChangeType.ADDED]
    assert server.requests[1].query["resourceVersion"] == "10"


async def test_gone_on_the_wire_lists_again(server: Server, tmp_path: Path) -> None:
    server.then_stream(bookmark(10, ends_list=True), event("ERROR", status(410, "Expired")), last_s=5)
    server.then(status(410, "Gone"), 410)
    server.then_stream(event("ADDED", pod("b", 12)), bookmark(13, ends_list=True), last_s=5)
    async with connected(server, tmp_path) as api:
        changes = await take(api, 5)

    assert [change.type.value for change in changes] == [
        "SYNC_STARTED",
        "SYNC_FINISHED",
        "SYNC_STARTED",
        "LISTED",
        "SYNC_FINISHED",
    ]


async def test_a_slow_consumer_slows_the_server(server: Server, tmp_path: Path) -> None:
    """Nothing is read ahead but the buffers of the connection."""
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(bookmark(10, ends_list=True))
        line = event("MODIFIED", pod("a", 11, annotations={"note": "x" * 100_000}))
        while sent < 100_000_000:
            await response.write(line)
            sent += len(line)
        return response

    server.answers.append(flood)
    async with connected(server, tmp_path) as api, aclosing(api.list_watch(PODS)) as changes:
        await anext(changes)
        await asyncio.sleep(1.0)
        assert sent < 20_000_000
