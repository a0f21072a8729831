"""Node groups end to end: what finds no place gets nodes, and nodes that nobody needs are emptied and go.

Autoscaler, executor and broker as processes, a real API server, and nodes and kubelets of kwok.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import RealClusters
from services.cli.fleet.local import SERVICES
from shared.events.v1.status import Condition, Phase, WorkloadStatus
from shared.model.identities import NODE_GROUP_LABEL
from tests.e2e.harness import Fleet, Json, followed, workload

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.testbed, pytest.mark.timeout(600)]

MEMBER, GROUP = "real-1", "small"
MIN_SIZE, MAX_SIZE = 1, 4
# The member's own node has 8 cpus, one of the group 2; memory is enough.
OWN_CPUS, NODE_CPUS = 8, 2
REPLICAS, AVAILABLE = 6, 5
# Long enough for a machine that is busy with other things.
_WITHIN_S = 120.0
_ENVIRONMENT = {
    "FLOTILLA_WATCHER_HEARTBEAT_S": "2",
    "FLOTILLA_AUTOSCALER_NODES_PERIOD_S": "1",
    "FLOTILLA_AUTOSCALER_UNNEEDED_S": "3",
    "FLOTILLA_EXECUTOR_NODE_GROUP_BUSY_S": "0.5",
}
DECLARED = {
    "apiVersion": "cluster.k8s.io/v1alpha1",
    "kind": "Cluster",
    "metadata": {"name": MEMBER},
    "spec": {
        "nodeGroups": [
            {
                "name": GROUP,
                "minSize": MIN_SIZE,
                "maxSize": MAX_SIZE,
                "price": 0.2,
                "template": {"allocatable": {"cpu": str(NODE_CPUS), "memory": "8Gi", "pods": 110}},
                "provider": {"kind": "kwok"},
            }
        ]
    },
}
BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "web", "namespace": "e2e"},
    "spec": {"minAvailable": AVAILABLE, "selector": {"matchLabels": {"flotilla.dev/workload": "web"}}},
}


@pytest_asyncio.fixture
async def fleet(
    kafka_bootstrap: str, redis_url: str, testbed_binaries: dict[str, Path], tmp_path: Path
) -> AsyncIterator[Fleet]:
    """One with a broker of its own; `kafka_bootstrap` and `redis_url` say whether the machine can run one."""
    del kafka_bootstrap, redis_url
    source = RealClusters(tmp_path / "clusters", clusters=1, nodes=1)
    options = FleetOptions(tmp_path, source, services=(*SERVICES, "autoscaler"), environment=_ENVIRONMENT)
    async with LocalFleet(options) as local, followed(local, testbed_binaries["kubectl"]) as running:
        yield running


def of_cpus(name: str, replicas: int) -> Json:
    """A workload whose pods ask for a cpu each."""
    return workload(name, replicas=replicas, resources={"requests": {"cpu": "1", "memory": "64Mi"}})


async def nodes_of_group(fleet: Fleet) -> set[str]:
    found = await fleet.kubectl(MEMBER, "get", "nodes", "-l", f"{NODE_GROUP_LABEL}={GROUP}", "-o", "json")
    return {node["metadata"]["name"] for node in json.loads(found)["items"]}


async def until_told(fleet: Fleet, is_so: Callable[[Json], bool]) -> None:
    """Until `flotilla why` says so of the group: executor and autoscaler tell it after it came to be."""
    told: Json = {}

    async def said() -> bool:
        told.clear()
        told.update((await fleet.why("nodegroup", f"{MEMBER}/{GROUP}"))["nodeGroup"])
        return is_so(told)

    try:
        await fleet.until_true(said, "why says so", within=_WITHIN_S)
    except AssertionError as error:
        raise AssertionError(told) from error


@dataclass
class Availability:
    """How many pods of a workload were ready at each change of one, as a watch tells them."""

    _ready: dict[str, bool] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)

    def observe(self, event: Json) -> None:
        pod = event["object"]
        conditions = {item["type"]: item["status"] for item in pod["status"].get("conditions", ())}
        is_ready = event["type"] != "DELETED" and "deletionTimestamp" not in pod["metadata"]
        self._ready[pod["metadata"]["uid"]] = is_ready and conditions.get("Ready") == "True"
        self.seen.append(sum(self._ready.values()))


@asynccontextmanager
async def watched(fleet: Fleet, name: str) -> AsyncIterator[Availability]:
    """The pods of a workload, from now on; fails if the watch ends by itself."""
    availability = Availability()
    path = f"/api/v1/namespaces/e2e/pods?watch=1&labelSelector=flotilla.dev/workload%3D{name}"
    process = await asyncio.create_subprocess_exec(
        *(str(fleet.kubectl_path), "--kubeconfig", str(fleet.clusters[MEMBER]), "get", "--raw", path),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    stdout = process.stdout
    assert stdout is not None

    async def follow() -> None:
        async for line in stdout:
            availability.observe(json.loads(line))

    following = asyncio.create_task(follow())
    try:
        yield availability
        assert not following.done(), "the watch has ended"
    finally:
        process.kill()
        await process.wait()
        await following


async def told_why_no_node_comes(fleet: Fleet) -> None:
    """A pod that is larger than any node says so: in its status, with kubectl, and by `why`; until it has room."""
    large = workload("large", resources={"requests": {"cpu": str(NODE_CPUS + 1), "memory": "64Mi"}})
    key = await fleet.apply(large)
    told = await fleet.until(key, lambda status: bool(coming(status)), within=_WITHIN_S)
    assert [(item.status, item.reason) for item in coming(told)] == [("False", "NoGroupFits")]

    async def shown() -> bool:
        found = await fleet.hub_kubectl("get", "workload", "large", "-n", "e2e", "-o", "json", "--ignore-not-found")
        conditions = json.loads(found)["status"].get("conditions", ()) if found else ()
        return ("NodesComing", "False", "NoGroupFits") in [(c["type"], c["status"], c["reason"]) for c in conditions]

    await fleet.until_true(shown, "the condition of the Workload on the hub")
    assert (await fleet.why(key))["nodes"]["reason"] == "NoGroupFits"
    del large["podSets"][0]["resources"]["requests"]["cpu"]
    await fleet.apply(large)
    await fleet.until(key, lambda status: status.phase is Phase.RUNNING and not coming(status), within=_WITHIN_S)
    await fleet.delete(key)
    await fleet.until_phase(key, Phase.DELETED)


def coming(status: WorkloadStatus) -> list[Condition]:
    return [item for item in status.conditions if item.type == "NodesComing"]


async def test_nodes_come_for_what_waits_and_go_when_nobody_needs_them(fleet: Fleet) -> None:
    filler = await fleet.apply(of_cpus("filler", OWN_CPUS))
    await fleet.until(filler, lambda s: s.phase is Phase.RUNNING and s.ready == OWN_CPUS, within=_WITHIN_S)
    await fleet.hub_kubectl("apply", "-f", "-", stdin=json.dumps(DECLARED))

    web = await fleet.apply(of_cpus("web", REPLICAS))

    async def waited() -> bool:
        return any(c.phase is Phase.PENDING and "Insufficient cpu" in c.message for c in fleet.history.get(web, ()))

    # By its history: the status may be another before it is looked at.
    await fleet.until_true(waited, "it waits, and says for what")
    await fleet.until(web, lambda s: s.phase is Phase.RUNNING and s.ready == REPLICAS, within=_WITHIN_S)
    made = await nodes_of_group(fleet)
    assert len(made) == REPLICAS // NODE_CPUS
    await until_told(
        fleet,
        lambda told: told["size"] == told["chosen"]["size"] == len(made) and told["reported"]["outcome"] == "applied",
    )

    await told_why_no_node_comes(fleet)
    assert await nodes_of_group(fleet) == made

    await fleet.kubectl(MEMBER, "create", "-f", "-", stdin=json.dumps(BUDGET))
    async with watched(fleet, "web") as availability:
        await fleet.apply(of_cpus("filler", 1))

        async def least() -> bool:
            return len(await nodes_of_group(fleet)) == MIN_SIZE

        await fleet.until_true(least, "nodes that nobody needs are gone", within=_WITHIN_S)
        await fleet.until(web, lambda s: s.phase is Phase.RUNNING and s.ready == REPLICAS)
    assert await nodes_of_group(fleet) < made
    # Those that are there when the watch begins are told one by one.
    drained = availability.seen[REPLICAS - 1 :]
    assert min(drained) == AVAILABLE, "pods were evicted, and never more than the budget allows"

    await until_told(
        fleet,
        lambda told: (
            told["size"] == MIN_SIZE and {kept["reason"] for kept in told["kept"]} == {"its group is at its least size"}
        ),
    )
