"""The real test bed does what a Kubernetes cluster does: asked through the real kubectl, on the shared cluster."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.chaos.supervision import keep_running
from tests.testbed import KubectlError, NodeShape, RealCluster
from tests.testbed.installation import pinned
from tests.testbed.load import LoadProfile, Rule

pytestmark = pytest.mark.testbed


@pytest_asyncio.fixture
async def namespace(real_cluster: RealCluster, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A namespace of the test's own, in which pods can be created."""
    name = request.node.name.replace("_", "-").removeprefix("test-")[:60]
    await real_cluster.kubectl("create", "namespace", name)
    await real_cluster.kubectl("wait", f"--namespace={name}", "--for=create", "serviceaccount/default", "--timeout=60s")
    yield name
    await real_cluster.kubectl("delete", "namespace", name, "--wait=false")


async def _pods(cluster: RealCluster, namespace: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(await cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))[
        "items"
    ]
    return listed


async def test_deployment_of_three_becomes_three_running_pods(real_cluster: RealCluster, namespace: str) -> None:
    await real_cluster.kubectl("create", "deployment", "nginx", "--image=nginx", "--replicas=3", "-n", namespace)
    await real_cluster.kubectl("rollout", "status", "deployment/nginx", "-n", namespace, "--timeout=60s")

    pods = await _pods(real_cluster, namespace)

    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 3
    assert all(pod["spec"]["nodeName"].startswith("shared-node-") and pod["status"]["podIP"] for pod in pods)
    assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["nginx"] * 3


async def test_job_completes(real_cluster: RealCluster, namespace: str) -> None:
    await real_cluster.kubectl("create", "job", "once", "--image=busybox", "-n", namespace)
    await real_cluster.kubectl("wait", "--for=condition=complete", "job/once", "-n", namespace, "--timeout=60s")


async def test_client_and_server_report_the_pinned_version(real_cluster: RealCluster) -> None:
    versions = json.loads(await real_cluster.kubectl("version", "-o", "json"))

    assert versions["clientVersion"]["gitVersion"] == pinned("k8s.io/kubernetes") == "v1.36.3"
    assert versions["serverVersion"]["gitVersion"] == "v1.36.3"
    assert (versions["serverVersion"]["major"], versions["serverVersion"]["minor"]) == ("1", "36")


async def test_kubeconfig_context_is_named_as_the_cluster(real_cluster: RealCluster) -> None:
    assert (await real_cluster.kubectl("config", "current-context")).strip() == "shared"
    assert real_cluster.kubeconfig.stat().st_mode & 0o077 == 0, "a kubeconfig is a secret"


async def test_service_accounts_have_tokens_and_only_the_rights_they_were_given(
    real_cluster: RealCluster, namespace: str
) -> None:
    token = (await real_cluster.kubectl("create", "token", "default", "-n", namespace)).strip()
    as_pod = (f"--token={token}", "-n", namespace)
    # Without the administrator's certificate: kubectl would send both and the certificate would win.
    bare = (
        "--kubeconfig=/dev/null",
        f"--server={real_cluster.api.server}",
        f"--certificate-authority={real_cluster.layout.authority.certificate}",
    )

    with pytest.raises(KubectlError, match=f"system:serviceaccount:{namespace}:default.*cannot list"):
        await real_cluster.kubectl(*bare, *as_pod, "get", "pods")

    await real_cluster.kubectl(
        "create", "rolebinding", "view", "--clusterrole=view", f"--serviceaccount={namespace}:default", "-n", namespace
    )
    await real_cluster.kubectl(*bare, *as_pod, "get", "pods")


async def test_nodes_come_and_go_with_what_they_were_given(real_cluster: RealCluster) -> None:
    shape = NodeShape(
        cpu="64",
        memory="512Gi",
        pods=250,
        labels={"topology.kubernetes.io/zone": "z1"},
        taints=[{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
        extended={"nvidia.com/gpu": "8"},
    )
    names = await real_cluster.create_nodes(2, shape, prefix="gpu")
    try:
        await real_cluster.cordon(names[:1])
        first, second = [await real_cluster.api.call("GET", f"/api/v1/nodes/{name}") for name in names]
    finally:
        await real_cluster.delete_nodes(names)

    assert names == ["gpu-0", "gpu-1"]
    allocatable = second["status"]["allocatable"]
    assert {k: allocatable[k] for k in ("cpu", "memory", "pods", "nvidia.com/gpu")} == {
        "cpu": "64", "memory": "512Gi", "pods": "250", "nvidia.com/gpu": "8",
    }  # fmt: skip
    assert second["metadata"]["labels"]["topology.kubernetes.io/zone"] == "z1"
    assert [taint["key"] for taint in second["spec"]["taints"]] == ["nvidia.com/gpu"]
    assert first["spec"]["unschedulable"] is True
    assert "gpu-" not in await real_cluster.kubectl("get", "nodes")


async def test_metrics_follow_the_load_profile(real_cluster: RealCluster, namespace: str) -> None:
    await real_cluster.kubectl("create", "deployment", "busy", "--image=nginx", "--replicas=1", "-n", namespace)
    await real_cluster.kubectl("rollout", "status", "deployment/busy", "-n", namespace, "--timeout=60s")

    real_cluster.set_load(
        LoadProfile(rules=[Rule(pods=f"{namespace}/busy-*", cpu_millicores=1500, memory_mebibytes=300)])
    )
    try:
        top_pods = await real_cluster.kubectl("top", "pods", "-n", namespace, "--no-headers")
        top_nodes = await real_cluster.kubectl("top", "nodes", "--no-headers")
    finally:
        real_cluster.set_load(LoadProfile())

    assert top_pods.split()[1:] == ["1500m", "300Mi"]
    used = sorted(int(line.split()[1].removesuffix("m")) for line in top_nodes.splitlines())
    assert used[-1] >= 1510, "the pod's use and the node's own are in the node's"
    assert len(used) == 3


async def test_watch_delivers_what_happens(real_cluster: RealCluster, namespace: str) -> None:
    """One long request through kubernetes-asyncio's configuration and transport, as the agents do it."""
    from kubernetes_asyncio import client, config  # noqa: PLC0415  slow to import, needed here only

    loaded = client.Configuration()
    await config.load_kube_config(str(real_cluster.kubeconfig), client_configuration=loaded)
    async with client.ApiClient(loaded) as api:
        core = client.CoreV1Api(api)
        since = (await core.list_namespaced_config_map(namespace)).metadata.resource_version
        # Untyped: without preloading it is the response, whatever the annotation says.
        events: Any = await core.list_namespaced_config_map(
            namespace, watch=True, resource_version=since, timeout_seconds=60, _preload_content=False
        )
        await real_cluster.kubectl("create", "configmap", "seen", "-n", namespace)
        deadline = time.monotonic() + 60
        names = []
        while "seen" not in names and time.monotonic() < deadline:
            line = await asyncio.wait_for(events.content.readline(), 60)
            names.append(json.loads(line)["object"]["metadata"]["name"])
        events.close()
    assert "seen" in names


async def test_a_scheduler_that_ended_is_started_again_and_schedules(real_cluster: RealCluster, namespace: str) -> None:
    told: list[tuple[str, str]] = []
    started = asyncio.Event()

    def tell(process: str, event: str, detail: str) -> None:
        del detail
        told.append((process, event))
        if event == "started":
            started.set()

    before = real_cluster.components["kube-scheduler"].pid
    assert before is not None
    supervision = asyncio.create_task(keep_running(real_cluster, tell))
    try:
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(60):
            await started.wait()
    finally:
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)
    process = f"{real_cluster.name}/kube-scheduler"
    assert told == [(process, "failed"), (process, "started")]
    assert real_cluster.components["kube-scheduler"].pid not in {None, before}
    await real_cluster.kubectl("create", "deployment", "web", "--image=web", "-n", namespace)
    await real_cluster.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s", "-n", namespace)
