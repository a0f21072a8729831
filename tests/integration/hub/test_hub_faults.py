"""The hub while the broker or the API server is away, and when the lease goes to somebody else."""

from __future__ import annotations

import asyncio

import pytest

from services.hub.decision.election import LEASES
from services.hub.decision.resources import WORKLOADS
from shared.events.v1.status import Phase
from shared.runtime.embedded import EmbeddedKafka
from tests.integration.hub.conftest import RunHub
from tests.integration.hub.support import WEB, Fleet, HubCluster, manifest, until
from tests.testbed import RealCluster

real_only = pytest.mark.parametrize("hub_kubeconfig", ["real"], indirect=True)

pytestmark = [pytest.mark.kafka, pytest.mark.testbed, real_only]


# Short enough that a leader gives up while its API server is away.
SHORT_LEASE = {"hub_lease_s": 3, "hub_renew_s": 2.0}


async def runs(hub_objects: HubCluster, name: str) -> bool:
    return (await hub_objects.status(WORKLOADS, name, "default")).get("phase") == "Running"


async def test_the_api_server_is_away_for_a_while(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub, real_hub_cluster: RealCluster
) -> None:
    async with run_hub(**SHORT_LEASE):
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "before", WEB))
        placed = await fleet.place(await fleet.request("default/before"))
        real_hub_cluster.kill("kube-apiserver")
        # Longer than the lease, so that the leader has to give up and come back.
        await fleet.report(placed, Phase.RUNNING, 3)
        await asyncio.sleep(4)
        await real_hub_cluster.restart("kube-apiserver")
        await until(lambda: runs(hub_objects, "before"), "the status of meanwhile", within=60)
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "after", WEB))
        await fleet.request("default/after", within=60)
        assert len(fleet.requests_for("default/before")) == 1


async def test_the_broker_is_away_for_a_while(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub, hub_kafka: EmbeddedKafka
) -> None:
    async with run_hub():
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "before", WEB))
        await fleet.request("default/before")
        hub_kafka.kill()
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "meanwhile", WEB))
        await asyncio.sleep(3)
        await hub_kafka.start()
        record = await fleet.request("default/meanwhile", within=60)
        await fleet.report(await fleet.place(record), Phase.RUNNING, 3)
        await until(lambda: runs(hub_objects, "meanwhile"), "the status after the outage", within=60)


async def test_who_loses_the_lease_stops_and_takes_part_again(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub
) -> None:
    async with run_hub() as hub:
        # Long enough that a slow machine sees all that follows while it lasts.
        spec = {"holderIdentity": "a-thief", "leaseDurationSeconds": 15}
        await hub_objects.api.merge_patch(LEASES, "flotilla-system", "6d45bc58.k8s.io", {"spec": spec})
        await until(lambda: hub._term is None, "the bridge to stop", within=10)
        assert hub.readiness().ready, "a standby serves"
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "web", WEB))
        await asyncio.sleep(1)
        assert fleet.requests == [], "nobody leads, so nothing is requested"
        await fleet.request("default/web", within=40)
