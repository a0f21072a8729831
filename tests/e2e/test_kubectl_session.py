"""The session of the README, word for word, with the real kubectl against both kinds of hub."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Fleet
from tests.testbed import RealCluster

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka, pytest.mark.timeout(180)]

MY_CLUSTER = """\
apiVersion: cluster.k8s.io/v1alpha1
kind: Cluster
metadata:
  name: mycluster
spec:
  workloads:
  - name: myworkload
    replicas: 3
    image: nginx
"""


@asynccontextmanager
async def agents_of(name: str, bed: str, fleet: Fleet) -> AsyncIterator[None]:
    """Makes agents of that name join: the simulator provisions what was declared, a real cluster has to be started."""
    if bed == "simulated":
        yield
        return
    async with RealCluster(name, nodes=2, with_metrics=True) as cluster:
        link = fleet.local.kubeconfigs / f"{name}.kubeconfig"
        link.symlink_to(cluster.kubeconfig)
        try:
            yield
        finally:
            link.unlink()


async def columns(fleet: Fleet, *arguments: str) -> dict[str, str]:
    """The one line of a table by its headings; empty while there is no such object."""
    lines = (await fleet.hub_kubectl(*arguments, "--ignore-not-found")).splitlines()
    if not lines:
        return {}
    head, line = lines
    # A column without a value is blank, so the headings say where each begins.
    starts = [match.start() for match in re.finditer(r"\S+", head)]
    ends: list[int | None] = [*starts[1:], None]
    names = head.split()
    return {name: line[start:end].strip() for name, start, end in zip(names, starts, ends, strict=True)}


async def condition(fleet: Fleet, kind: str) -> str:
    found = await fleet.hub_kubectl("get", "cluster", "mycluster", "-o", "json")
    conditions: list[dict[str, Any]] = json.loads(found).get("status", {}).get("conditions", [])
    return next((item["reason"] for item in conditions if item["type"] == kind), "")


async def test_create_a_cluster_and_its_workload_runs_there(fleet: Fleet, bed: str, tmp_path: Path) -> None:
    file = tmp_path / "mycluster.yaml"
    file.write_text(MY_CLUSTER)

    created = await fleet.hub_kubectl("create", "-f", str(file))
    assert created == "cluster.cluster.k8s.io/mycluster created\n"

    async def told() -> bool:
        # The simulator may have provisioned it already.
        return await condition(fleet, "Joined") in {"WaitingForAgents", "HeartbeatSeen"}

    await fleet.until_true(told, "the Cluster says whether agents have joined")

    async with agents_of("mycluster", bed, fleet):

        async def ready() -> bool:
            line = await columns(fleet, "get", "cluster", "mycluster")
            nodes = line.get("NODES", "").split("/")
            measured = line.get("CPU", "").endswith("%") and line.get("MEMORY", "").endswith("%")
            return line.get("READY") == "True" and len(set(nodes)) == 1 and measured and bool(line["AGE"])

        await fleet.until_true(ready, "kubectl get cluster shows it ready, its nodes and their use", within=90)

        async def running() -> bool:
            line = await columns(fleet, "get", "workloads", "mycluster")
            return (line.get("PHASE"), line.get("READY"), line.get("CLUSTERS")) == ("Running", "3/3", "mycluster")

        await fleet.until_true(running, "kubectl get workloads shows it running in that cluster", within=60)

        pods = await fleet.objects("mycluster", "pods", "mycluster", "default")
        assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 3
        assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"nginx"}
        assert set(await fleet.pods("mycluster", "default")) == {"mycluster"}

        await fleet.hub_kubectl("delete", "cluster", "mycluster")

        async def gone() -> bool:
            return not await columns(fleet, "get", "workloads", "mycluster")

        await fleet.until_true(gone, "its workload goes with it", within=60)

    async def forgotten() -> bool:
        return not await columns(fleet, "get", "cluster", "mycluster")

    await fleet.until_true(forgotten, "the cluster is gone", within=60)


async def test_members_that_joined_by_themselves_are_clusters_too(fleet: Fleet) -> None:
    async def ready() -> bool:
        lines = (await fleet.hub_kubectl("get", "clusters", "--no-headers")).splitlines()
        found = {line.split()[0]: line.split()[1] for line in lines}
        return all(found.get(name) == "True" for name in fleet.clusters)

    await fleet.until_true(ready, "every member is a Cluster and Ready")


async def test_a_workload_goes_its_whole_way_through_kubectl(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    document: dict[str, Any] = {
        "apiVersion": "cluster.k8s.io/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": "kubectl-web", "namespace": "default"},
        "spec": {"podSets": [{"name": "app", "replicas": 2, "image": "nginx"}]},
    }
    file.write_text(json.dumps(document))
    await fleet.hub_kubectl("apply", "-f", str(file))

    async def runs(ready: str, image: str) -> bool:
        line = await columns(fleet, "get", "wl", "kubectl-web")
        if (line.get("PHASE"), line.get("READY")) != ("Running", ready):
            return False
        pods = [pod for items in (await fleet.pods("kubectl-web", "default")).values() for pod in items]
        return {pod["spec"]["containers"][0]["image"] for pod in pods} == {image}

    await fleet.until_true(lambda: runs("2/2", "nginx"), "two replicas of nginx", within=60)
    document["spec"]["podSets"][0] |= {"replicas": 4, "image": "nginx:1.29"}
    file.write_text(json.dumps(document))
    await fleet.hub_kubectl("apply", "-f", str(file))
    await fleet.until_true(lambda: runs("4/4", "nginx:1.29"), "four replicas of the new image", within=60)

    # kubectl waits by itself until the finalizer is off, which is when the fleet let go of it.
    await fleet.hub_kubectl("delete", "-f", str(file), "--timeout=60s")
    assert await fleet.pods("kubectl-web", "default") == {}


async def test_a_workload_of_the_topic_is_seen_and_deleted_with_kubectl(fleet: Fleet) -> None:
    body = {"namespace": "e2e", "name": "of-the-topic", "podSets": [{"name": "main", "replicas": 1, "image": "nginx"}]}
    await fleet.apply(body)

    async def runs() -> bool:
        line = await columns(fleet, "get", "wl", "of-the-topic", "-n", "e2e")
        return line.get("PHASE") == "Running"

    await fleet.until_true(runs, "the workload appears and runs", within=60)
    await fleet.hub_kubectl("delete", "wl", "of-the-topic", "-n", "e2e", "--timeout=60s")
    assert await fleet.pods("of-the-topic") == {}


async def test_what_is_wrong_is_told(fleet: Fleet, bed: str) -> None:
    """A real API server refuses it by the rules of the definition; on the simulator it is a condition."""
    document = {
        "apiVersion": "cluster.k8s.io/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": "nothing-runs", "namespace": "default"},
        "spec": {"podSets": [{"name": "app", "replicas": 2}]},
    }
    if bed == "real":
        with pytest.raises(Exception, match="exactly one of image, template and manifest must be given"):
            await fleet.hub_kubectl("create", "-f", "-", stdin=json.dumps(document))
        return
    await fleet.hub_kubectl("create", "-f", "-", stdin=json.dumps(document))

    async def refused() -> bool:
        line = await columns(fleet, "get", "wl", "nothing-runs", "-o", "wide")
        return line.get("PHASE") == "Rejected" and "exactly one of image" in line.get("MESSAGE", "")

    await fleet.until_true(refused, "the object says what is wrong with it")
    await fleet.hub_kubectl("delete", "wl", "nothing-runs", "--timeout=60s")
