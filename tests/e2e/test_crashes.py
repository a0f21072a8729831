"""kill -9 of every service in turn, under a stream of requests: nothing lost, nothing twice, no node overcommitted."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict

import pytest

from shared.events.v1.status import Phase
from shared.model.quantities import resource_amount
from tests.e2e.harness import Fleet, Json, Predicate, alive, workload

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka, pytest.mark.timeout(480)]

NAMESPACE = "crash"
WORKLOADS = 60
EVERY_S = 0.4
VICTIMS = ("scheduler", "executor", "watcher", "status", "hub", "scheduler-2", "executor", "scheduler")


def asked(number: int) -> Json:
    return workload(
        f"w{number:02d}",
        namespace=NAMESPACE,
        replicas=1 + number % 3,
        resources={"requests": {"cpu": "100m", "memory": "64Mi"}},
        placement={"binding": "node" if number % 3 == 0 else "cluster"},
    )


async def publish(fleet: Fleet) -> dict[str, int]:
    """A stream of workloads; the replicas asked for, by key."""
    wanted: dict[str, int] = {}
    for number in range(WORKLOADS):
        body = asked(number)
        wanted[await fleet.apply(body)] = body["podSets"][0]["replicas"]
        await asyncio.sleep(EVERY_S)
    return wanted


async def kill_in_turn(fleet: Fleet) -> None:
    for name in VICTIMS:
        service = fleet.local.services[name]
        service.kill()
        await asyncio.sleep(0.5)
        service.start()
        await service.wait_ready()
        await asyncio.sleep(1)


def is_running(replicas: int) -> Predicate:
    return lambda status: status.phase is Phase.RUNNING and status.ready == replicas == status.desired


async def pods_of(fleet: Fleet, cluster: str) -> list[Json]:
    found = json.loads(await fleet.kubectl(cluster, "get", "pods", "-A", "-o", "json"))["items"]
    return [pod for pod in found if alive(pod)]


async def test_kill_9_of_each_service_in_turn(fleet: Fleet) -> None:
    wanted, _ = await asyncio.gather(publish(fleet), kill_in_turn(fleet))
    for key, replicas in wanted.items():
        await fleet.until(key, is_running(replicas), within=90)

    pods: dict[str, int] = defaultdict(int)
    for cluster in fleet.clusters:
        living = await pods_of(fleet, cluster)
        for pod in living:
            if pod["metadata"]["namespace"] == NAMESPACE:
                pods[f"{NAMESPACE}/{pod['metadata']['labels']['flotilla.dev/workload']}"] += 1
        await assert_not_overcommitted(fleet, cluster, living)
        deployments = json.loads(await fleet.kubectl(cluster, "get", "deployments", "-n", NAMESPACE, "-o", "json"))
        # A second apply that changed anything would show in the generation.
        assert {item["metadata"]["generation"] for item in deployments["items"]} <= {1}
    assert pods == wanted
    for key in wanted:
        phases = [change.phase for change in fleet.history[key]]
        # Accepted once and first; with watchers gone a workload may wait for clusters to be heard again.
        assert (phases[0], phases.count(Phase.ACCEPTED)) == (Phase.ACCEPTED, 1), (key, phases)


async def assert_not_overcommitted(fleet: Fleet, cluster: str, pods: list[Json]) -> None:
    nodes = json.loads(await fleet.kubectl(cluster, "get", "nodes", "-o", "json"))["items"]
    used: dict[tuple[str, str], int] = defaultdict(int)
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for resource, amount in container.get("resources", {}).get("requests", {}).items():
                used[pod["spec"].get("nodeName", ""), resource] += resource_amount(resource, amount)
    for node in nodes:
        for resource, amount in node["status"]["allocatable"].items():
            assert used[node["metadata"]["name"], resource] <= resource_amount(resource, amount)
