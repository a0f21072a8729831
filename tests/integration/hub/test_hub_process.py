"""The hub as a process: killed, stopped, replaced; and while its neighbours are away."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from services.hub.decision.election import LEASES
from services.hub.decision.resources import WORKLOADS
from shared.adapters.redis import RedisKeyValue, RedisOptions
from shared.events.topics import STATUS, dead_letter_topic
from shared.events.v1.read_model import WORKLOADS_TABLE
from shared.events.v1.status import Phase
from shared.ports.event_log import NewRecord
from tests.integration.hub.conftest import RunHub
from tests.integration.hub.support import WEB, Fleet, HubCluster, HubProcess, event_id, manifest, until

pytestmark = pytest.mark.kafka

Environment = dict[str, str]


async def phase(hub_objects: HubCluster, name: str) -> str:
    return str((await hub_objects.status(WORKLOADS, name, "default")).get("phase", ""))


async def test_a_killed_hub_goes_on_where_it_was(
    hub_objects: HubCluster, fleet: Fleet, hub_environment: Environment, tmp_path: Path
) -> None:
    async with HubProcess(tmp_path, hub_environment) as hub:
        await until(lambda: hub.said("custom resources are served"), "the custom resources")
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "before", WEB))
        placed = await fleet.place(await fleet.request("default/before"))
        await fleet.report(placed, Phase.RUNNING, 3)

        async def runs() -> bool:
            return await phase(hub_objects, "before") == "Running"

        await until(runs, "the status")
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "unanswered", WEB))
        first = await fleet.request("default/unanswered")
        await hub.kill()

        # While it is away a workload is made, one is deleted, and a status changes.
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "meanwhile", WEB))
        await hub_objects.kubectl("delete", "workload", "before", "--wait=false")
        await fleet.report(placed, Phase.DEGRADED, 2)

        await hub.start()
        await fleet.request("default/meanwhile")
        deletion = await fleet.request("default/before", 2)
        assert event_id(deletion).endswith(".delete")
        again = await fleet.request("default/unanswered", 2)
        assert (event_id(again), again.value) == (event_id(first), first.value)

        async def degraded() -> bool:
            return await phase(hub_objects, "before") == "Degraded"

        await until(degraded, "the status that was missed")
        assert len(fleet.requests_for("default/before")) == 2


async def test_a_stopped_hub_lets_go_of_its_lease(
    hub_objects: HubCluster, fleet: Fleet, hub_environment: Environment, tmp_path: Path
) -> None:
    assert fleet
    async with HubProcess(tmp_path, hub_environment) as hub:
        await until(lambda: hub.said("caught up"), "the bridge")
        lease = await hub_objects.api.get(LEASES, "flotilla-system", "6d45bc58.k8s.io")
        assert lease["spec"]["holderIdentity"]
        assert await hub.terminate() == 0
        lease = await hub_objects.api.get(LEASES, "flotilla-system", "6d45bc58.k8s.io")
        assert not lease["spec"].get("holderIdentity")
        assert not [line for line in hub.logged if line.get("level") in {"error", "critical"}]


async def test_a_standby_takes_over_from_a_killed_leader_and_only_then(
    hub_objects: HubCluster, fleet: Fleet, hub_environment: Environment, tmp_path: Path
) -> None:
    async with HubProcess(tmp_path, hub_environment) as first:
        await until(lambda: first.said("caught up"), "the first to bridge")
        async with HubProcess(tmp_path, hub_environment) as second:
            await until(lambda: second.said("standing by"), "the second to stand by")
            await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "one", WEB))
            await fleet.request("default/one")
            async with aiohttp.ClientSession() as http, http.get(f"{await second.url()}/readyz") as response:
                assert response.status == 200
            assert not second.said("leading")

            await first.kill()
            await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "two", WEB))
            await fleet.request("default/two")
            assert second.said("leading")


@pytest.mark.redis
async def test_rest_serves_the_read_model(
    hub_objects: HubCluster, fleet: Fleet, hub_environment: Environment, tmp_path: Path, redis_url: str
) -> None:
    assert hub_objects
    assert fleet
    store = RedisKeyValue.open(RedisOptions(redis_url))
    try:
        await store.write(WORKLOADS_TABLE, {"team/web": b'{"namespace":"team","name":"web","phase":"Running"}'})
        async with HubProcess(tmp_path, hub_environment | {"FLOTILLA_REDIS_URL": redis_url}) as hub:
            url = await hub.url()
            async with aiohttp.ClientSession() as http:
                async with http.get(f"{url}/workload?phase=Running") as response:
                    assert (await response.json())["items"] == [
                        {"namespace": "team", "name": "web", "phase": "Running"}
                    ]
                async with http.get(f"{url}/healthz") as response:
                    assert response.status == 200
                async with http.get(f"{url}/metrics") as response:
                    assert "flotilla_hub_leader" in await response.text()
    finally:
        await store.clear(WORKLOADS_TABLE)
        await store.close()


async def test_a_malformed_record_goes_to_the_dead_letters_and_the_rest_goes_on(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub
) -> None:
    async with run_hub():
        await (await fleet.publisher.send(NewRecord(STATUS.name, b"default/web", b'{"phase": 7')))
        await (await fleet.publisher.send(NewRecord(STATUS.name, b"no-slash", b"{}")))
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "web", WEB))
        placed = await fleet.place(await fleet.request("default/web"))
        await fleet.report(placed, Phase.RUNNING, 3)

        async def runs() -> bool:
            return await phase(hub_objects, "web") == "Running"

        await until(runs, "the status behind the malformed one")
        letters = await fleet.records(dead_letter_topic(STATUS))
        # A hub that begins anew, as it may on a busy machine, reads from the start and tells again.
        assert sorted({letter.value or b"" for letter in letters}) == [b'{"phase": 7', b"{}"]
        assert {letter.header("dlq_reason") for letter in letters} == {b"Malformed", b"Required"}


async def test_a_user_who_takes_the_definitions_away_gets_them_back_with_a_restart(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub
) -> None:
    async with run_hub():
        pass
    await hub_objects.kubectl("delete", "crd", "workloads.cluster.k8s.io", "clusters.cluster.k8s.io")
    async with run_hub():
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Workload", "web", WEB))
        await fleet.request("default/web")
