"""A cluster comes because somebody creates a Cluster, runs a workload, and is drained and gone when it is deleted.

On simulated clusters the simulator makes it. On real ones Cluster API does, on the hub's own API server: its own
definition, and controllers that the test plays, which hand out the kubeconfig of another real cluster. There the hub
keeps that in its Secret, and the test plays the kubelet that mounts it where the agents look. The workload is named to
the new cluster until it runs there, and may then leave it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from shared.adapters.kubernetes import KubernetesApi
from shared.events.v1.status import Phase
from shared.security.permissions import KUBECONFIGS
from tests.contract.provisioning.topologies import NAMESPACE, Topologies, installed
from tests.e2e.harness import Fleet, Json, alive, workload
from tests.testbed import KubectlError, RealCluster
from tests.testbed.cluster_api import definition
from tests.testbed.fixtures import needed
from tests.testbed.secret_volume import SECRETS, SecretVolume

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka, pytest.mark.timeout(480)]

NAME = "made"
# Where the hub's lease is, by default.
HUB_NAMESPACE = "flotilla-system"
# Beside Cluster API, `cluster` alone would be ambiguous.
KIND = "clusters.cluster.k8s.io"
SIMULATOR: dict[str, Any] = {"provider": "simulator", "nodes": [{"name": "small", "count": 2}]}
CLUSTER_API: dict[str, Any] = {
    "provider": "clusterApi",
    "namespace": NAMESPACE,
    "class": {"name": "quick-start"},
    "version": "v1.36.3",
    "workers": [{"name": "small", "class": "default-worker", "replicas": 2}],
}


@asynccontextmanager
async def maker(fleet: Fleet, bed: str) -> AsyncIterator[dict[str, Any]]:
    """What makes the cluster, as a Cluster's `spec.provision` names it."""
    if bed == "simulated":
        yield SIMULATOR
        return
    needed(definition)
    async with AsyncExitStack() as stack:
        api = await KubernetesApi.from_kubeconfig(fleet.local.hub_kubeconfig)
        stack.push_async_callback(api.close)
        await stack.enter_async_context(installed(api, "v1beta2"))
        topologies = await stack.enter_async_context(Topologies(api).running())
        other = await stack.enter_async_context(RealCluster(NAME, nodes=2, with_metrics=True))
        topologies.kubeconfigs[NAME] = other.kubeconfig.read_bytes()
        volume = SecretVolume(fleet.local.kubeconfigs)
        await stack.enter_async_context(volume.following(api, HUB_NAMESPACE, KUBECONFIGS))
        yield CLUSTER_API
        assert await api.get(SECRETS, HUB_NAMESPACE, KUBECONFIGS), "that was the way"


async def conditions(fleet: Fleet) -> dict[str, tuple[str, str]]:
    found = json.loads(await fleet.hub_kubectl("get", KIND, NAME, "-o", "json"))
    return {item["type"]: (item["status"], item["reason"]) for item in found.get("status", {}).get("conditions", ())}


async def running(fleet: Fleet, clusters: list[str]) -> int:
    """Pods of the workload that run in these clusters; one that has gone has none."""
    found = [await pods_in(fleet, name) for name in clusters]
    return sum(alive(pod) and pod["status"].get("phase") == "Running" for pods in found for pod in pods)


async def pods_in(fleet: Fleet, cluster: str) -> list[Json]:
    if cluster not in fleet.clusters:
        return []
    try:
        return await fleet.objects(cluster, "pods", "mover")
    except (KeyError, KubectlError):
        # It may go while kubectl asks, its kubeconfig first.
        if cluster in fleet.clusters:
            raise
        return []


async def test_a_cluster_comes_runs_a_workload_and_goes_drained(fleet: Fleet, bed: str) -> None:
    async with maker(fleet, bed) as provision:
        document = {
            "apiVersion": "cluster.k8s.io/v1alpha1",
            "kind": "Cluster",
            "metadata": {"name": NAME},
            "spec": {"provision": provision},
        }
        await fleet.hub_kubectl("create", "-f", "-", stdin=json.dumps(document))

        async def ready() -> bool:
            found = await conditions(fleet)
            return all(found.get(kind, ("", ""))[0] == "True" for kind in ("Provisioned", "Ready"))

        await fleet.until_true(ready, "it is made, has joined, and is Ready")
        assert NAME in fleet.clusters

        there = {"clusters": [NAME]}
        key = await fleet.apply(workload("mover", replicas=2, placement=there))
        await fleet.until_phase(key, Phase.RUNNING)
        assert set(await fleet.pods("mover")) == {NAME}

        # Nothing else may have it: it stays, and the Cluster says why.
        await fleet.hub_kubectl("delete", KIND, NAME, "--wait=false")

        async def draining() -> bool:
            return (await conditions(fleet)).get("Drained", ("", ""))[0] == "False"

        await fleet.until_true(draining, "it is being drained")
        assert NAME in fleet.clusters
        assert sum(len(pods) for pods in (await fleet.pods("mover")).values()) == 2

        # Now it may: its replicas start elsewhere, and run there before they are removed here.
        await fleet.apply(workload("mover", replicas=2))
        counted: list[int] = []

        async def elsewhere() -> bool:
            there = await running(fleet, [NAME])
            others = await running(fleet, [name for name in fleet.clusters if name != NAME])
            counted.append(there + others)
            return there == 0

        await fleet.until_true(elsewhere, "the workload has left")
        assert min(counted) >= 2, counted

        async def gone() -> bool:
            return not await fleet.hub_kubectl("get", KIND, NAME, "--ignore-not-found", "-o", "name")

        await fleet.until_true(gone, "the Cluster is gone")
        assert NAME not in fleet.clusters
        moved = await fleet.pods("mover")
        assert sum(len(pods) for pods in moved.values()) == 2
        await fleet.delete(key)
        await fleet.until_phase(key, Phase.DELETED)
