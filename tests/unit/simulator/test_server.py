"""The shell over a real socket: faults, watches that are cut, tokens, kubeconfigs, the admin API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from services.simulator.faults import FaultSpec
from services.simulator.http.api import WatchSettings
from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup, Timing
from tests.contract.kubernetes.client import Kube
from tests.contract.kubernetes.objects import config_map, workload

Json = dict[str, Any]

_SPEC = ClusterSpec(name="alpha", node_groups=(NodeGroup(count=2),), timing=Timing(pod_start=0.05, pod_start_jitter=0))
_PATH = "/api/v1/namespaces/default/configmaps"


@pytest_asyncio.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    watch = WatchSettings(queue_limit=50, bookmark_seconds=0.1)
    async with Simulator(kubeconfig_dir=tmp_path, window=100, watch=watch) as made:
        await made.add_cluster(_SPEC)
        yield made


@pytest_asyncio.fixture
async def kube(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Kube]:
    async with Kube(tmp_path / "alpha.kubeconfig", "default") as client:
        yield client


async def test_latency(simulator: Simulator, kube: Kube) -> None:
    simulator.inject("alpha", FaultSpec(latency_seconds=0.2, methods=("POST",)))
    started = time.perf_counter()
    (await kube.post(_PATH, config_map())).ok()
    slow = time.perf_counter() - started
    started = time.perf_counter()
    (await kube.get(_PATH)).ok()
    assert slow >= 0.2 > time.perf_counter() - started


async def test_errors_and_throttling(simulator: Simulator, kube: Kube) -> None:
    simulator.inject("alpha", FaultSpec(error_rate=1, error_status=503, path_contains="configmaps"))
    (await kube.get(_PATH)).refused(503, "ServiceUnavailable")
    (await kube.get("/api/v1/namespaces/default/pods")).ok()
    simulator.inject("alpha", FaultSpec(throttle_rate=1, retry_after_seconds=7))
    answer = await kube.get(_PATH)
    assert answer.refused(429, "TooManyRequests")["details"]["retryAfterSeconds"] == 7
    assert answer.headers["Retry-After"] == "7"
    simulator.inject("alpha", None)
    (await kube.get(_PATH)).ok()


async def test_some_requests_fail_by_rate(simulator: Simulator, kube: Kube) -> None:
    simulator.inject("alpha", FaultSpec(error_rate=0.5))
    statuses = [(await kube.get(_PATH)).status for _ in range(60)]
    assert 10 < statuses.count(500) < 50


async def test_dropped_watches_end_without_a_goodbye(simulator: Simulator, kube: Kube) -> None:
    async with kube.watch(_PATH) as watch:
        (await kube.post(_PATH, config_map())).ok()
        await watch.seen("ADDED", "one")
        assert simulator.drop_watches("alpha") == 1
        with pytest.raises(aiohttp.ClientError):
            await watch.rest()
    assert simulator.drop_watches("alpha") == 0


async def test_a_watcher_that_is_gone_is_forgotten(simulator: Simulator, kube: Kube) -> None:
    listeners = simulator.cluster("alpha").state.store.collection("configmaps").listeners
    async with kube.watch(_PATH):
        assert len(listeners) == 1
    await _eventually(lambda: not listeners)


async def test_a_slow_watcher_is_cut_off(simulator: Simulator, kube: Kube) -> None:
    body = config_map(data={"large": "x" * 100_000})
    async with kube.watch(_PATH) as watch:
        made = (await kube.post(_PATH, body)).ok()
        await watch.seen("ADDED", "one")
        for number in range(400):
            (
                await kube.put(
                    f"{_PATH}/one", made | {"data": {"large": f"{number}" + "x" * 100_000}} | _unversioned(made)
                )
            ).ok()
        with pytest.raises(aiohttp.ClientError):
            await watch.rest()


def _unversioned(body: Json) -> Json:
    return {"metadata": {name: value for name, value in body["metadata"].items() if name != "resourceVersion"}}


async def test_compaction_makes_versions_too_old(simulator: Simulator, kube: Kube) -> None:
    version = (await kube.get(_PATH)).ok()["metadata"]["resourceVersion"]
    (await kube.post(_PATH, config_map())).ok()
    simulator.compact("alpha")
    status = (await kube.get(_PATH, watch=1, resourceVersion=version)).refused(410, "Expired")
    assert "too old resource version" in status["message"]
    newer = (await kube.get(_PATH)).ok()["metadata"]["resourceVersion"]
    async with kube.watch(_PATH, resourceVersion=newer, timeoutSeconds=1) as watch:
        assert await watch.rest() == []


async def test_the_window_is_bounded(simulator: Simulator, kube: Kube) -> None:
    version = (await kube.get(_PATH)).ok()["metadata"]["resourceVersion"]
    for number in range(105):
        (await kube.post(_PATH, config_map(f"x{number}"))).ok()
    (await kube.get(_PATH, watch=1, resourceVersion=version)).refused(410, "Expired")
    token = (await kube.get(_PATH, limit=1)).ok()["metadata"]["continue"]
    for number in range(105):
        (await kube.delete(f"{_PATH}/x{number}")).ok()
    (await kube.get(_PATH, limit=1, **{"continue": token})).refused(410, "Expired")


async def test_stale_lists_show_the_past_to_those_who_allow_it(simulator: Simulator, kube: Kube) -> None:
    simulator.inject("alpha", FaultSpec(stale_lists=True))
    (await kube.post(_PATH, config_map())).ok()
    assert (await kube.get(_PATH, resourceVersion="0")).ok()["items"] == []
    assert len((await kube.get(_PATH)).ok()["items"]) == 1
    simulator.inject("alpha", None)
    assert len((await kube.get(_PATH, resourceVersion="0")).ok()["items"]) == 1


async def test_bookmarks_come_while_nothing_happens(simulator: Simulator, kube: Kube) -> None:
    version = (await kube.get(_PATH)).ok()["metadata"]["resourceVersion"]
    async with kube.watch(_PATH, resourceVersion=version, allowWatchBookmarks=True) as watch:
        (await kube.post("/api/v1/namespaces/default/secrets", _secret())).ok()
        event = await watch.next()
    assert event is not None
    assert event["type"] == "BOOKMARK"
    assert event["object"]["kind"] == "ConfigMap"
    assert int(event["object"]["metadata"]["resourceVersion"]) >= int(version)


def _secret() -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}


async def test_a_restart_makes_old_versions_old(tmp_path: Path) -> None:
    now = time.time()
    versions: list[str] = []
    for later in (0, 5):
        async with Simulator(kubeconfig_dir=tmp_path, clock=lambda: now + later) as made:  # noqa: B023  # used at once
            await made.add_cluster(_SPEC)
            async with Kube(tmp_path / "alpha.kubeconfig", "default") as client:
                if versions:
                    (await client.get(_PATH, watch=1, resourceVersion=versions[0])).refused(410, "Expired")
                versions.append((await client.get(_PATH)).ok()["metadata"]["resourceVersion"])
    assert int(versions[1]) > int(versions[0])


async def test_kubeconfigs_come_and_go_with_their_clusters(simulator: Simulator, tmp_path: Path) -> None:
    await simulator.add_cluster(ClusterSpec(name="beta", node_groups=()))
    await simulator.add_cluster(ClusterSpec(name="beta", node_groups=()))
    with pytest.raises(ValueError, match="a different cluster beta exists"):
        await simulator.add_cluster(ClusterSpec(name="beta"))
    document = yaml.safe_load((tmp_path / "beta.kubeconfig").read_text())
    assert document["clusters"][0]["cluster"]["server"] == simulator.server_url("beta")
    async with Kube(tmp_path / "beta.kubeconfig") as client:
        await simulator.remove_cluster("beta")
        (await client.get("/api/v1/nodes")).refused(404, "NotFound")
    await simulator.remove_cluster("beta")
    assert _kubeconfigs(tmp_path) == ["alpha.kubeconfig"]
    await simulator.stop()
    assert _kubeconfigs(tmp_path) == []


def _kubeconfigs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.kubeconfig"))


async def test_a_token_is_demanded_and_written(tmp_path: Path) -> None:
    async with Simulator(kubeconfig_dir=tmp_path, token="secret") as made:
        url = await made.add_cluster(_SPEC)
        async with Kube(tmp_path / "alpha.kubeconfig") as client:
            (await client.get("/api/v1/nodes")).ok()
        document = yaml.safe_load((tmp_path / "alpha.kubeconfig").read_text())
        assert document["users"][0]["user"] == {"token": "secret"}
        assert (tmp_path / "alpha.kubeconfig").stat().st_mode & 0o077 == 0
        document["users"][0]["user"] = {"token": "wrong"}
        (tmp_path / "wrong").write_text(yaml.safe_dump(document))
        async with Kube(tmp_path / "wrong") as client:
            (await client.get("/api/v1/nodes")).refused(401, "Unauthorized")
        assert url.startswith("http://127.0.0.1:")


async def test_bodies_are_bounded_and_garbage_is_refused(kube: Kube) -> None:
    large = config_map(data={"x": "y" * (4 * 1024 * 1024)})
    (await kube.post(_PATH, large)).refused(413, "RequestEntityTooLarge")
    for body, content in (
        (b"{", "application/json"),
        (b"a: [", "application/yaml"),
        (b"k8s\x00\xff", "application/vnd.kubernetes.protobuf"),
    ):
        (await kube.call("POST", _PATH, body, content=content)).refused(400, "BadRequest")
    (await kube.call("POST", _PATH, b"x", content="text/plain")).refused(415, "UnsupportedMediaType")


def _admin(simulator: Simulator, tmp_path: Path) -> Kube:
    """A client of the simulator's own API, which is beside the clusters."""
    client = Kube(tmp_path / "alpha.kubeconfig")
    client._server = f"http://127.0.0.1:{simulator.port}/simulator"
    return client


async def test_the_admin_api_makes_and_breaks_clusters(simulator: Simulator, tmp_path: Path) -> None:
    async with _admin(simulator, tmp_path) as admin:
        spec = {"name": "made", "region": "eu-1", "nodeGroups": [{"name": "small", "count": 1, "cpu": "2"}]}
        assert (await admin.post("/clusters", spec)).ok()["server"] == simulator.server_url("made")
        (await admin.post("/clusters", spec | {"region": "other"})).refused(409, "Conflict")
        (await admin.post("/clusters", {"name": "Not Valid"})).refused(400, "BadRequest")
        added = (await admin.post("/clusters/made/nodes", {"name": "extra", "count": 2})).ok()
        assert added["nodes"] == ["made-extra-0", "made-extra-1"]
        (await admin.post("/clusters/made/nodes/made-extra-0/fail", None)).ok()
        described = (await admin.get("/clusters/made")).ok()
        assert (described["nodes"], described["failedNodes"]) == (3, ["made-extra-0"])
        (await admin.post("/clusters/made/nodes/made-extra-0/recover", None)).ok()
        (await admin.delete("/clusters/made/nodes/made-extra-1")).ok()
        (await admin.delete("/clusters/made/nodes/nothing")).refused(404, "NotFound")
        faults = (await admin.put("/clusters/made/faults", {"errorRate": 1})).ok()
        assert faults["errorRate"] == 1
        (await admin.put("/clusters/made/faults", {"errorRate": 2})).refused(400, "BadRequest")
        (await admin.delete("/clusters/made/faults")).ok()
        assert (await admin.post("/clusters/made/drop-watches", None)).ok() == {"dropped": 0}
        described = (await admin.get("/clusters")).ok()["clusters"]
        assert [(entry["name"], entry["nodes"]) for entry in described] == [("alpha", 2), ("made", 2)]
        (await admin.delete("/clusters/made")).ok()
        (await admin.get("/clusters/made")).refused(404, "NotFound")
    assert simulator.names == ("alpha",)


async def test_clusters_do_not_see_each_other(simulator: Simulator, kube: Kube, tmp_path: Path) -> None:
    await simulator.add_cluster(_SPEC.model_copy(update={"name": "beta"}))
    (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=2))).ok()
    await kube.until(kube.path("pods"), lambda body: _running(body) == 2)
    async with Kube(tmp_path / "beta.kubeconfig", "default") as other:
        assert (await other.get(other.path("pods"))).ok()["items"] == []


def _running(body: Json) -> int:
    return sum(item["status"].get("phase") == "Running" for item in body["items"])


async def test_a_reconcile_that_fails_does_not_stop_the_others(simulator: Simulator, kube: Kube) -> None:
    made = simulator.cluster("alpha")
    broken = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "broken", "namespace": "default", "uid": "u"},
    }
    made.state.store.insert("deployments.apps", broken)
    (await kube.post(kube.path("apps/v1/deployments"), workload("Deployment", replicas=1))).ok()
    await kube.until(kube.path("pods"), lambda body: _running(body) == 1)


async def _eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)
