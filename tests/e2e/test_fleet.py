"""The main job end to end, the same suite on simulated and on real clusters: requests in, pods run, status out."""

from __future__ import annotations

import json

import pytest

from shared.events.v1.status import Phase, WorkloadStatus
from tests.e2e.harness import Fleet, Json, workload
from tests.testbed import NodeShape

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka]

RESOURCES = {"requests": {"cpu": "100m", "memory": "64Mi"}}


def total(pods: dict[str, list[Json]]) -> int:
    return sum(len(items) for items in pods.values())


def images(pods: dict[str, list[Json]]) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for items in pods.values() for pod in items}


async def running(fleet: Fleet, body: Json, ready: int) -> tuple[str, WorkloadStatus]:
    key = await fleet.apply(body)
    status = await fleet.until(key, lambda s: s.phase is Phase.RUNNING and s.ready == ready)
    return key, status


async def uids(fleet: Fleet, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pods in (await fleet.pods(name)).values() for pod in pods}


async def runs(fleet: Fleet, name: str, count: int, image: str = "") -> bool:
    """Whether just so many pods of the workload live, all of them of this image."""
    pods = await fleet.pods(name)
    return total(pods) == count and (not image or images(pods) <= {image})


async def test_a_workload_goes_through_every_phase_and_its_pods_run(fleet: Fleet) -> None:
    key, status = await running(fleet, workload("first", replicas=3, resources=RESOURCES), 3)

    async def told() -> bool:
        return len(fleet.history.get(key, ())) >= 4

    # The history is written first, but read from another topic.
    await fleet.until_true(told, "four phases in its history")
    assert [change.phase for change in fleet.history[key]] == [
        Phase.ACCEPTED,
        Phase.SCHEDULED,
        Phase.APPLIED,
        Phase.RUNNING,
    ]
    pods = await fleet.pods("first")
    assert total(pods) == 3
    assert {cluster.cluster: cluster.counts.ready for cluster in status.clusters} == {
        cluster: len(items) for cluster, items in pods.items()
    }


async def test_a_changed_image_reaches_every_pod(fleet: Fleet) -> None:
    key, _ = await running(fleet, workload("image", replicas=3, resources=RESOURCES), 3)
    await fleet.publish("change", workload("image", replicas=3, image="nginx:1.29", resources=RESOURCES))
    await fleet.until_true(lambda: runs(fleet, "image", 3, "nginx:1.29"), "three pods of the new image")
    await fleet.until_phase(key, Phase.RUNNING)


async def test_scaling_up_and_down_moves_only_the_difference(fleet: Fleet) -> None:
    key, _ = await running(fleet, workload("scaled", replicas=2, resources=RESOURCES), 2)
    before = await uids(fleet, "scaled")
    await fleet.apply(workload("scaled", replicas=5, resources=RESOURCES))
    await fleet.until(key, lambda s: s.phase is Phase.RUNNING and s.ready == 5)
    assert before < await uids(fleet, "scaled")
    await fleet.apply(workload("scaled", replicas=1, resources=RESOURCES))
    await fleet.until(key, lambda s: s.phase is Phase.RUNNING and s.desired == 1 and s.ready == 1)
    await fleet.until_true(lambda: runs(fleet, "scaled", 1), "one pod is left")


async def test_a_deleted_workload_leaves_nothing_behind(fleet: Fleet) -> None:
    key, _ = await running(fleet, workload("gone", replicas=2, resources=RESOURCES), 2)
    await fleet.delete(key)
    await fleet.until_phase(key, Phase.DELETED)
    await fleet.until_true(lambda: runs(fleet, "gone", 0), "no pod is left")
    assert await fleet.owners("gone") == []


async def test_bound_to_nodes_and_moved_when_the_node_is_drained(fleet: Fleet) -> None:
    body = workload("bound", replicas=2, resources=RESOURCES, placement={"binding": "node"})
    key, _ = await running(fleet, body, 2)
    cluster, pods = next(iter((await fleet.pods("bound")).items()))
    node = pods[0]["spec"]["nodeName"]

    async def moved() -> bool:
        found = await fleet.pods("bound")
        return total(found) == 2 and node not in {pod["spec"].get("nodeName") for pod in found.get(cluster, [])}

    try:
        await fleet.kubectl(cluster, "drain", node, "--ignore-daemonsets", "--force", "--timeout=60s")
        await fleet.until_true(moved, f"no pod on {node}, two elsewhere")
        await fleet.until(key, lambda s: s.phase is Phase.RUNNING and s.ready == 2)
    finally:
        await fleet.kubectl(cluster, "uncordon", node)


async def test_moved_to_another_cluster_when_its_own_has_no_room_left(fleet: Fleet) -> None:
    key, _ = await running(fleet, workload("moved", replicas=1, resources=RESOURCES), 1)
    (cluster,) = await fleet.pods("moved")
    nodes = json.loads(await fleet.kubectl(cluster, "get", "nodes", "-o", "json"))["items"]
    names = [node["metadata"]["name"] for node in nodes]

    async def left() -> bool:
        found = await fleet.pods("moved")
        return total(found) == 1 and cluster not in found

    try:
        await fleet.kubectl(cluster, "cordon", *names)
        await fleet.kubectl(cluster, "delete", "pod", "-n", "e2e", "-l", "flotilla.dev/workload=moved")
        await fleet.until_true(left, f"the replica left {cluster}")
        await fleet.until(key, lambda s: s.phase is Phase.RUNNING and s.ready == 1)
    finally:
        await fleet.kubectl(cluster, "uncordon", *names)


async def test_what_fits_nowhere_waits_with_a_reason_and_runs_when_a_node_comes(fleet: Fleet) -> None:
    key = await fleet.apply(workload("big", resources={"requests": {"cpu": "200", "memory": "1Gi"}}))
    status = await fleet.until_phase(key, Phase.PENDING)
    assert "Insufficient cpu" in status.message
    manifest = NodeShape(cpu="256", memory="64Gi").manifest("e2e-big-node")
    # On real clusters kwok says so for its nodes; the simulator leaves nodes that it did not make to whoever did.
    manifest["status"]["conditions"] = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    await fleet.add_node(next(iter(fleet.clusters)), manifest)
    await fleet.until_phase(key, Phase.RUNNING)
    (pods,) = (await fleet.pods("big")).values()
    assert pods[0]["spec"]["nodeName"] == "e2e-big-node"


async def test_drift_is_repaired(fleet: Fleet) -> None:
    key, _ = await running(fleet, workload("drift", replicas=1, resources=RESOURCES), 1)
    (cluster,) = await fleet.owners("drift")

    async def image() -> str:
        (deployment,) = await fleet.objects(cluster, "deployments", "drift")
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    async def ours_again() -> bool:
        return await image() == "nginx"

    await fleet.kubectl(cluster, "set", "image", "-n", "e2e", "deployment/drift-main", "*=httpd")
    await fleet.until_true(ours_again, "the image is ours again")
    await fleet.kubectl(cluster, "delete", "-n", "e2e", "deployment/drift-main")
    await fleet.until_true(lambda: runs(fleet, "drift", 1, "nginx"), "the deployment is back")
    await fleet.until_phase(key, Phase.RUNNING)


async def test_agents_that_were_down_catch_up_with_what_changed(fleet: Fleet) -> None:
    changed, _ = await running(fleet, workload("away-changed", replicas=2, resources=RESOURCES), 2)
    deleted, _ = await running(fleet, workload("away-deleted", replicas=1, resources=RESOURCES), 1)
    agents = [fleet.local.services[name] for name in ("executor", "watcher")]
    for agent in agents:
        agent.kill()
    try:
        await fleet.apply(workload("away-changed", replicas=4, image="httpd", resources=RESOURCES))
        await fleet.delete(deleted)
        created = await fleet.apply(workload("away-created", replicas=1, resources=RESOURCES))
    finally:
        for agent in agents:
            agent.start()
    await fleet.until(changed, lambda s: s.phase is Phase.RUNNING and s.ready == 4 and s.desired == 4)
    await fleet.until_phase(created, Phase.RUNNING)
    await fleet.until_phase(deleted, Phase.DELETED)
    await fleet.until_true(lambda: runs(fleet, "away-changed", 4, "httpd"), "four pods of the new image")
    await fleet.until_true(lambda: runs(fleet, "away-deleted", 0), "the deleted one is gone")
