"""Clusters from kubectl to the topics and back, and clusters that join by themselves."""

from __future__ import annotations

import pytest

from services.hub.decision.resources import CLUSTERS, WORKLOADS
from shared.events.registry import decode
from shared.events.topics import CLUSTERS as DECLARATIONS
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.events.v1.workloads import ApplyWorkload
from tests.integration.hub.conftest import RunHub
from tests.integration.hub.support import Fleet, HubCluster, event_id, manifest, until

pytestmark = pytest.mark.kafka

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


async def declarations(fleet: Fleet) -> list[ClusterDeclared | None]:
    records = await fleet.records(DECLARATIONS)
    return [decode(ClusterDeclared, record.value) if record.value is not None else None for record in records]


async def test_the_session_of_the_readme(hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub) -> None:
    async with run_hub():
        await hub_objects.kubectl("create", "-f", "-", stdin=MY_CLUSTER)
        record = await fleet.request("default/mycluster")
        request = decode(WorkloadRequested, record.value).root
        assert isinstance(request, ApplyWorkload)
        (pod_set,) = request.workload.pod_sets
        assert (pod_set.name, pod_set.replicas, pod_set.image) == ("myworkload", 3, "nginx")
        assert request.workload.placement.clusters == ("mycluster",)
        (declared,) = await declarations(fleet)
        assert declared is not None
        assert declared.name == "mycluster"
        await until(lambda: waits(hub_objects), "the cluster to say that it waits")

        # Heard for as long as the columns are looked at.
        await fleet.beat("mycluster", interval_ms=600_000)
        placed = await fleet.place(record, ["mycluster"])
        await fleet.report(placed, Phase.RUNNING, 3, ["mycluster"])

        async def columns() -> list[str]:
            lines = (await hub_objects.kubectl("get", "cluster", "mycluster")).splitlines()
            assert lines[0].split() == [
                "NAME",
                "READY",
                "NODES",
                "CPU",
                "MEMORY",
                "VERSION",
                "LOCATION",
                "PROVISION",
                "AGE",
            ]
            return lines[1].split()[:7]

        expected = ["mycluster", "True", "3/3", "25%", "25%", "v1.36.3", "acme/north"]

        async def as_expected() -> bool:
            return await columns() == expected

        await until(as_expected, "the columns")

        async def runs() -> bool:
            lines = (await hub_objects.kubectl("get", "workloads", "mycluster")).splitlines()
            return lines[1].split()[:4] == ["mycluster", "Running", "3/3", "mycluster"]

        await until(runs, "the workload's columns")


async def waits(hub_objects: HubCluster) -> bool:
    return await hub_objects.condition(CLUSTERS, "mycluster", "Joined") == ("False", "WaitingForAgents")


async def test_a_deleted_cluster_takes_its_workload_and_its_declaration_back(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub
) -> None:
    async with run_hub():
        await hub_objects.kubectl("create", "-f", "-", stdin=MY_CLUSTER)
        await fleet.place(await fleet.request("default/mycluster"), ["mycluster"])
        await hub_objects.kubectl("delete", "cluster", "mycluster")
        deletion = await fleet.request("default/mycluster", 2)
        assert event_id(deletion).endswith(".delete")
        await fleet.forget("default/mycluster")

        async def gone() -> bool:
            return await hub_objects.find(WORKLOADS, "mycluster", "default") is None

        async def taken_back() -> bool:
            return (await declarations(fleet))[-1] is None

        await until(gone, "the workload to go")
        await until(taken_back, "the declaration to be taken back")


async def test_a_cluster_that_joins_by_itself_appears_and_may_be_cordoned(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub
) -> None:
    async with run_hub():
        await fleet.beat("west")

        async def ready() -> bool:
            return await hub_objects.condition(CLUSTERS, "west", "Ready") == ("True", "AgentReady")

        await until(ready, "the cluster to appear")
        assert await declarations(fleet) == []
        await hub_objects.kubectl("patch", "fcl", "west", "--type=merge", "-p", '{"spec":{"unschedulable":true}}')

        async def declared() -> bool:
            found = await declarations(fleet)
            return bool(found and found[-1] and found[-1].unschedulable)

        await until(declared, "the declaration")

        async def lost() -> bool:
            return await hub_objects.condition(CLUSTERS, "west", "Ready") == ("Unknown", "HeartbeatLost")

        await until(lost, "the missing heartbeats to be seen")


async def test_a_workload_of_somebody_else_is_a_condition(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub
) -> None:
    mine = {"podSets": [{"name": "mine", "image": "redis"}]}
    async with run_hub():
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "mycluster", mine))
        await fleet.request("default/mycluster")
        await hub_objects.kubectl("create", "-f", "-", stdin=MY_CLUSTER)

        async def conflict() -> bool:
            found = await hub_objects.condition(CLUSTERS, "mycluster", "WorkloadsApplied")
            return found == ("False", "NameConflict")

        await until(conflict, "the conflict to be told")
        found = await hub_objects.find(WORKLOADS, "mycluster", "default")
        assert found is not None
        assert found["spec"] == mine
