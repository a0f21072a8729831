"""The watcher as a process, on real Kafka and a real API server: whatever happens, the log ends with what exists."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.watcher.settings import DEFAULT_RESOURCES, parse_resources
from shared.adapters.kafka import KafkaLog
from shared.adapters.kubernetes import KubernetesApi
from shared.model.identities import Resource
from tests.integration.watcher.support import (
    Cut,
    WatcherProcess,
    connected,
    converged,
    last_heartbeat,
    of_cluster,
    read_all,
)
from tests.testbed import RealCluster

pytestmark = [pytest.mark.kafka, pytest.mark.testbed, pytest.mark.slow]

RESOURCES = parse_resources(DEFAULT_RESOURCES)
CONFIG_MAPS = Resource("", "v1", "configmaps")


@pytest_asyncio.fixture
async def log(kafka_bootstrap: str) -> AsyncIterator[KafkaLog]:
    async with connected(kafka_bootstrap) as connection:
        yield connection


@pytest_asyncio.fixture
async def api(real_cluster: RealCluster) -> AsyncIterator[KubernetesApi]:
    connection = await KubernetesApi.from_kubeconfig(real_cluster.kubeconfig)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def namespace(real_cluster: RealCluster, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    name = request.node.name.replace("_", "-").removeprefix("test-")[:40].rstrip("-")
    await real_cluster.kubectl("create", "namespace", name)
    await real_cluster.kubectl("wait", f"--namespace={name}", "--for=create", "serviceaccount/default", "--timeout=60s")
    yield name
    await real_cluster.kubectl("delete", "namespace", name, "--wait=false")


def environment(kafka_bootstrap: str, cluster: str, kubeconfig: Path, **more: str) -> dict[str, str]:
    return {
        "FLOTILLA_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "FLOTILLA_WATCHER_CLUSTER": cluster,
        "FLOTILLA_WATCHER_KUBECONFIG": str(kubeconfig),
        "FLOTILLA_WATCHER_HEARTBEAT_S": "1",
        **more,
    }


async def test_log_ends_with_what_exists_after_kill_and_deletions(
    real_cluster: RealCluster, namespace: str, api: KubernetesApi, log: KafkaLog, kafka_bootstrap: str, tmp_path: Path
) -> None:
    cluster = "killed"
    process = WatcherProcess(tmp_path, environment(kafka_bootstrap, cluster, real_cluster.kubeconfig))
    async with process:
        await real_cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=4", "-n", namespace)
        await real_cluster.kubectl("create", "deployment", "db", "--image=nginx", "--replicas=2", "-n", namespace)
        await real_cluster.kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=60s")
        before = await converged(log, api, cluster, RESOURCES)
        await process.kill()

        await real_cluster.kubectl("delete", "deployment", "db", "-n", namespace)
        await real_cluster.kubectl("scale", "deployment/web", "--replicas=1", "-n", namespace)
        await real_cluster.kubectl("create", "deployment", "new", "--image=nginx", "-n", namespace)
        await process.start()
        after = await converged(log, api, cluster, RESOURCES)
        assert await process.terminate() == 0

    assert any(b"/db" in (record.key or b"") for record in before)
    epochs = [int((record.header("fleet_epoch") or b"0").decode()) for record in after]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) == 2
    for epoch in set(epochs):
        sequence = [
            int((record.header("fleet_seq") or b"").decode())
            for record in after
            if record.header("fleet_epoch") == str(epoch).encode()
        ]
        assert sequence == list(range(len(sequence)))
    assert not any(b"managedFields" in (record.value or b"") for record in after)


async def test_dropped_watches_and_an_unreachable_server_lose_nothing(
    real_cluster: RealCluster, namespace: str, api: KubernetesApi, log: KafkaLog, kafka_bootstrap: str, tmp_path: Path
) -> None:
    cluster = "dropped"
    cut = Cut(real_cluster.kubeconfig)
    await cut.start(tmp_path / "cut.yaml")
    process = WatcherProcess(tmp_path, environment(kafka_bootstrap, cluster, tmp_path / "cut.yaml"))
    async with process:
        await converged(log, api, cluster, RESOURCES)
        await real_cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=3", "-n", namespace)
        assert cut.drop() > 5
        await real_cluster.kubectl("scale", "deployment/web", "--replicas=1", "-n", namespace)
        await asyncio.sleep(1)
        cut.drop()
        await real_cluster.kubectl("delete", "deployment", "web", "-n", namespace)
        cut.refusing = True
        cut.drop()
        await _until_ready(log, cluster, ready=False)
        cut.refusing = False
        await _until_ready(log, cluster, ready=True)
        records = await converged(log, api, cluster, RESOURCES)
    await cut.stop()

    assert len({record.header("fleet_epoch") for record in records}) == 1
    # The watches went on where they had stood: nothing but the first lists.
    started = [record for record in records if b"/-/sync/v1/pods" in (record.key or b"")]
    assert [json.loads(record.value or b"")["phase"] for record in started] == ["started", "finished"]


async def test_heartbeat_tells_version_nodes_and_sums(
    real_cluster: RealCluster, log: KafkaLog, kafka_bootstrap: str, tmp_path: Path
) -> None:
    cluster = "beating"
    more = {"FLOTILLA_WATCHER_LABELS": "flotilla.dev/provider=kwok", "FLOTILLA_WATCHER_METRICS_S": "1"}
    async with WatcherProcess(tmp_path, environment(kafka_bootstrap, cluster, real_cluster.kubeconfig, **more)):
        await _until_ready(log, cluster, ready=True)
        async with asyncio.timeout(60):
            while True:
                heartbeat = last_heartbeat(of_cluster(await read_all(log), cluster), cluster)
                if heartbeat is not None and heartbeat.usage:
                    break
                await asyncio.sleep(0.3)
        samples = [r for r in await read_all(log, "fleet.metrics") if (r.key or b"").startswith(b"beating/")]

    assert heartbeat.kubernetes_version == "v1.36.3"
    assert (heartbeat.nodes, heartbeat.nodes_ready) == (3, 3)
    nodes = json.loads(await real_cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    assert heartbeat.capacity["cpu"] == str(sum(int(node["status"]["capacity"]["cpu"]) for node in nodes))
    assert heartbeat.labels["flotilla.dev/provider"] == "kwok"
    assert {record.key for record in samples} == {b"beating/nodes", b"beating/pods"}


async def test_an_extra_resource_that_is_not_served_leaves_the_cluster_ready(
    real_cluster: RealCluster, namespace: str, api: KubernetesApi, log: KafkaLog, kafka_bootstrap: str, tmp_path: Path
) -> None:
    cluster = "extra"
    more = {"FLOTILLA_WATCHER_EXTRA_RESOURCES": "v1/configmaps,example.com/v1/absents"}
    async with WatcherProcess(tmp_path, environment(kafka_bootstrap, cluster, real_cluster.kubeconfig, **more)):
        await real_cluster.kubectl("create", "configmap", "settings", "--from-literal=a=b", "-n", namespace)
        await _until_ready(log, cluster, ready=True)
        await converged(log, api, cluster, RESOURCES | {CONFIG_MAPS})


async def _until_ready(log: KafkaLog, cluster: str, *, ready: bool, within: float = 90) -> None:
    async with asyncio.timeout(within):
        while True:
            heartbeat = last_heartbeat(of_cluster(await read_all(log), cluster), cluster)
            if heartbeat is not None and heartbeat.ready is ready:
                return
            await asyncio.sleep(0.3)
