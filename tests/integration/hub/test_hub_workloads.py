"""Workloads from kubectl to the topics and back, on both kinds of hub and a real Apache Kafka."""

from __future__ import annotations

import pytest

from services.hub.decision.resources import FINALIZER, WORKLOADS
from shared.events.registry import decode
from shared.events.topics import AUDIT
from shared.events.v1.audit import ActionAudited
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.events.v1.workloads import PodSet, Workload
from tests.integration.hub.conftest import RunHub
from tests.integration.hub.support import WEB, Fleet, HubCluster, event_id, manifest, until

pytestmark = pytest.mark.kafka


async def test_a_workload_goes_out_and_its_status_comes_back(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub
) -> None:
    async with run_hub():
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "web", WEB, labels={"app": "web"}))
        record = await fleet.request("default/web")
        request = decode(WorkloadRequested, record.value).root
        assert request.operation == "apply"
        assert request.workload.labels == {"app": "web"}
        found = await hub_objects.find(WORKLOADS, "web", "default")
        assert found is not None
        assert found["metadata"]["finalizers"] == [FINALIZER]
        assert event_id(record).startswith(f"{found['metadata']['uid']}.1.")

        placed = await fleet.place(record)
        await fleet.report(placed, Phase.RUNNING, 3)

        async def runs() -> bool:
            return (await hub_objects.status(WORKLOADS, "web", "default")).get("phase") == "Running"

        await until(runs, "the status to come back")
        lines = (await hub_objects.kubectl("get", "workloads", "web")).splitlines()
        assert lines[0].split() == ["NAME", "PHASE", "READY", "CLUSTERS", "AGE"]
        assert lines[1].split()[:4] == ["web", "Running", "3/3", "west"]
        assert "web" in await hub_objects.kubectl("get", "wl")
        assert "workload.cluster.k8s.io/web" in await hub_objects.kubectl("get", "fleet", "-A")


async def test_a_deletion_waits_for_the_fleet(hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub) -> None:
    async with run_hub():
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "web", WEB))
        placed = await fleet.place(await fleet.request("default/web"))
        await fleet.report(placed, Phase.RUNNING, 3)
        await hub_objects.kubectl("delete", "workload", "web", "--wait=false")
        deletion = await fleet.request("default/web", 2)
        assert decode(WorkloadRequested, deletion.value).root.operation == "delete"
        await fleet.place_workload(placed.workload, event_id(deletion), deleting=True)
        assert await hub_objects.find(WORKLOADS, "web", "default") is not None
        await fleet.forget("default/web")

        async def gone() -> bool:
            return await hub_objects.find(WORKLOADS, "web", "default") is None

        await until(gone, "the object to go")
        actions = [decode(ActionAudited, record.value) for record in await fleet.records(AUDIT)]
        assert [(action.actor, action.verb) for action in actions] == [
            ("kubectl-create", "create"),
            ("unknown", "delete"),
        ]


async def test_a_workload_of_the_topic_appears_and_can_be_deleted(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub
) -> None:
    workload = Workload(namespace="team-a", name="batch", pod_sets=(PodSet(name="app", image="busybox", replicas=2),))
    async with run_hub():
        placed = await fleet.place_workload(workload, "from-the-command-line")
        await fleet.report(placed, Phase.RUNNING, 2)

        async def mirrored() -> bool:
            return (await hub_objects.status(WORKLOADS, "batch", "team-a")).get("phase") == "Running"

        await until(mirrored, "the workload to appear, its namespace with it")
        found = await hub_objects.find(WORKLOADS, "batch", "team-a")
        assert found is not None
        assert found["metadata"]["labels"] == {"flotilla.dev/origin": "topic"}
        assert found["spec"]["podSets"] == [{"name": "app", "image": "busybox", "replicas": 2}]
        assert fleet.requests == []

        await hub_objects.kubectl("delete", "workload", "batch", "-n", "team-a", "--wait=false")
        deletion = await fleet.request("team-a/batch")
        assert decode(WorkloadRequested, deletion.value).root.operation == "delete"
        await fleet.forget("team-a/batch")

        async def gone() -> bool:
            return await hub_objects.find(WORKLOADS, "batch", "team-a") is None

        await until(gone, "the object to go")
        assert len(fleet.requests) == 1
