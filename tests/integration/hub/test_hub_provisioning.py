"""Clusters that the hub has made by Cluster API, whose controllers are played on an API server of its own.

The hub runs on a simulated and on a real API server; the test plays scheduler, status service and watchers.
"""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from services.hub.decision.election import LEASES
from services.hub.decision.resources import CLUSTERS, WORKLOADS
from services.hub.effects import ensure_namespace
from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.provisioning.kubeconfig_secret import LIMIT_BYTES
from shared.events.registry import decode
from shared.events.topics import ALL_TOPICS, OBJECTS
from shared.events.topics import CLUSTERS as DECLARATIONS
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.status import Phase
from shared.events.v1.workloads import Workload
from shared.model.identities import heartbeat_key
from shared.model.provisioning import DRAINING, FORCE_DELETE_ANNOTATION
from shared.ports.event_log import NewRecord
from shared.security.permissions import KUBECONFIGS
from tests.contract.provisioning.topologies import NAMESPACE, Topologies, installed
from tests.integration.hub.conftest import RunHub
from tests.integration.hub.support import Fleet, HubCluster, HubProcess, manifest, until
from tests.testbed.cluster_api import definition
from tests.testbed.fixtures import needed
from tests.testbed.kubectl import KubectlError
from tests.testbed.secret_volume import SECRETS, SecretVolume

pytestmark = [pytest.mark.kafka, pytest.mark.testbed]

# Where the hub's lease is, by default.
HUB_NAMESPACE = "flotilla-system"
LEASE = "6d45bc58.k8s.io"
TOKEN = "not-for-anybody-elses-eyes"
VARIABLE = "nor-is-this-variable"
WEST: dict[str, Any] = {
    "labels": {"tier": "gold"},
    "provision": {
        "provider": "clusterApi",
        "management": "berlin",
        "namespace": NAMESPACE,
        "class": {"name": "quick-start"},
        "version": "v1.36.3",
        "workers": [{"name": "small", "class": "default-worker", "replicas": 2}],
        "variables": [{"name": "password", "value": VARIABLE}],
    },
}
WEB = {"namespace": "shop", "name": "web", "podSets": [{"name": "app", "image": "nginx", "replicas": 1}]}


@dataclass(frozen=True)
class Berlin:
    """A management cluster, and where the agents look. `joined` is the kubeconfig of a cluster that runs already."""

    topologies: Topologies
    management: Path
    agents: Path
    joined: bytes

    @property
    def file(self) -> Path:
        return self.agents / "west.kubeconfig"

    def settings(self) -> dict[str, Any]:
        return {
            "hub_management_dir": self.management,
            "hub_kubeconfig_dir": self.agents,
            "hub_provision_s": 1.0,
            "hub_provision_busy_s": 0.3,
            "hub_drain_settle_s": 0.5,
            "hub_drain_s": 2.0,
        }

    def environment(self) -> dict[str, str]:
        return {f"FLOTILLA_{name.upper()}": str(value) for name, value in self.settings().items()}

    async def exists(self) -> bool:
        return await self.topologies.find("west") is not None


@pytest_asyncio.fixture
async def berlin(tmp_path: Path) -> AsyncIterator[Berlin]:
    needed(definition)
    async with Simulator(kubeconfig_dir=tmp_path / "simulated") as simulator:
        for name in ("management", "made"):
            await simulator.add_cluster(ClusterSpec(name=name))
        management, agents = tmp_path / "management", tmp_path / "agents"
        management.mkdir()
        (management / "berlin").write_bytes((tmp_path / "simulated" / "management.kubeconfig").read_bytes())
        api = await KubernetesApi.from_kubeconfig(management / "berlin")
        document = yaml.safe_load((tmp_path / "simulated" / "made.kubeconfig").read_text())
        document["users"][0]["user"]["token"] = TOKEN
        async with installed(api, "v1beta2"), Topologies(api).running() as topologies:
            yield Berlin(topologies, management, agents, yaml.safe_dump(document).encode())
        await api.close()


@asynccontextmanager
async def joining(berlin: Berlin, hub: HubCluster, kept: str) -> AsyncIterator[dict[str, Any]]:
    """The hub's settings; with a Secret also a kubelet, which mounts it where the agents look."""
    settings = berlin.settings()
    if kept == "directory":
        yield settings
        return
    del settings["hub_kubeconfig_dir"]
    await ensure_namespace(hub.api, HUB_NAMESPACE)
    async with SecretVolume(berlin.agents).following(hub.api, HUB_NAMESPACE, KUBECONFIGS):
        yield settings | {"hub_kubeconfig_secret": KUBECONFIGS}
    await hub.api.delete(SECRETS, HUB_NAMESPACE, KUBECONFIGS)


async def create(hub: HubCluster, spec: dict[str, Any] = WEST) -> None:
    await hub.kubectl("create", "-f", "-", stdin=manifest("Cluster", "west", spec))


def shows(hub: HubCluster, kind: str, status: str, reason: str) -> Callable[[], Any]:
    async def look() -> bool:
        return await hub.condition(CLUSTERS, "west", kind) == (status, reason)

    return look


async def runs_there(hub: HubCluster, fleet: Fleet) -> WorkloadPlaced:
    """A workload in the cluster, of which the hub has heard: else it would take the cluster for empty."""
    placed = await fleet.place_workload(Workload.model_validate(WEB), "asked")
    await fleet.report(placed, Phase.RUNNING, 1)

    async def mirrored() -> bool:
        return (await hub.status(WORKLOADS, "web", "shop")).get("phase") == Phase.RUNNING

    await until(mirrored, "the hub shows the workload")
    return placed


async def gone(hub: HubCluster) -> bool:
    return await hub.find(CLUSTERS, "west") is None


async def left(fleet: Fleet) -> None:
    """The watcher's tombstone."""
    await (await fleet.publisher.send(NewRecord(OBJECTS.name, heartbeat_key("west").encode(), None, (), b"west")))


async def declarations(fleet: Fleet) -> list[ClusterDeclared | None]:
    records = [record for record in await fleet.records(DECLARATIONS) if record.key == b"west"]
    return [decode(ClusterDeclared, record.value) if record.value else None for record in records]


@pytest.mark.parametrize("kept", ["directory", "secret"])
async def test_it_is_made_joined_changed_drained_and_deleted(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub, berlin: Berlin, kept: str
) -> None:
    async with joining(berlin, hub_objects, kept) as settings, run_hub(**settings):
        await create(hub_objects)
        await until(berlin.exists, "a Cluster of Cluster API")
        await until(shows(hub_objects, "Provisioned", "False", "Provisioning"), "that it is being made")
        assert not berlin.file.exists()

        berlin.topologies.kubeconfigs["west"] = berlin.joined
        await until(berlin.file.exists, "the agents' kubeconfig")
        if kept == "directory":
            assert stat.S_IMODE(berlin.file.stat().st_mode) == 0o600
        joined = await KubernetesApi.from_kubeconfig(berlin.file)
        assert await joined.version()
        await joined.close()
        await until(shows(hub_objects, "Provisioned", "True", "Provisioned"), "that it is there")
        # Heard until its watcher says that it left, however long the rest takes.
        await fleet.beat("west", interval_ms=600_000)
        await until(shows(hub_objects, "Ready", "True", "AgentReady"), "that it is Ready")
        row = (await hub_objects.kubectl("get", "clusters.cluster.k8s.io", "west")).splitlines()[1]
        assert "Provisioned" in row.split()

        # Extended: patches of its topology.
        workers = [{"name": "small", "class": "default-worker", "replicas": 5}]
        newer = {"provision": {**WEST["provision"], "version": "v1.37.0", "workers": workers}}
        patch = json.dumps({"spec": newer})
        await hub_objects.kubectl("patch", "clusters.cluster.k8s.io", "west", "--type=merge", "-p", patch)

        async def extended() -> bool:
            topology = await berlin.topologies.topology("west")
            replicas = topology["workers"]["machineDeployments"][0]["replicas"]
            return (topology["version"], replicas) == ("v1.37.0", 5)

        await until(extended, "a newer version with more workers")
        # Rotated: what the Secret says now is what agents get.
        berlin.topologies.kubeconfigs["west"] = berlin.joined.replace(TOKEN.encode(), b"rotated")
        await until(lambda: "rotated" in berlin.file.read_text(), "the rotated kubeconfig")

        await runs_there(hub_objects, fleet)
        await hub_objects.kubectl("delete", "clusters.cluster.k8s.io", "west", "--wait=false")
        await until(shows(hub_objects, "Drained", "False", "WaitingForRoom"), "what holds it up")
        closed = (await declarations(fleet))[-1]
        assert closed is not None
        assert closed.unschedulable
        assert DRAINING in closed.taints
        assert berlin.file.exists(), "nothing is removed as long as something runs there"
        assert await berlin.exists()

        placed = await fleet.place_workload(Workload.model_validate(WEB), "asked", ("east",))
        await fleet.report(placed, Phase.RUNNING, 1, ("east",))
        await until(lambda: not berlin.file.exists(), "the agents' kubeconfig is gone")
        assert await berlin.exists(), "first the agents leave"
        await left(fleet)
        await until(lambda: gone(hub_objects), "the Cluster is gone")
        assert not await berlin.exists()
        assert (await declarations(fleet))[-1] is None
    for topic in ALL_TOPICS:
        for record in await fleet.records(topic):
            assert TOKEN.encode() not in (record.value or b""), topic.name
            assert VARIABLE.encode() not in (record.value or b""), topic.name


async def test_with_the_annotation_it_goes_with_what_runs_there(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub, berlin: Berlin
) -> None:
    berlin.topologies.kubeconfigs["west"] = berlin.joined
    async with run_hub(**berlin.settings()):
        await create(hub_objects)
        await until(berlin.file.exists, "the agents' kubeconfig")
        await runs_there(hub_objects, fleet)
        await hub_objects.kubectl("delete", "clusters.cluster.k8s.io", "west", "--wait=false")
        await until(shows(hub_objects, "Drained", "False", "WaitingForRoom"), "what holds it up")
        await hub_objects.kubectl("annotate", "clusters.cluster.k8s.io", "west", f"{FORCE_DELETE_ANNOTATION}=true")
        await until(lambda: gone(hub_objects), "the Cluster is gone")
        assert not await berlin.exists()
        assert not berlin.file.exists()


@pytest.mark.timeout(900)
async def test_it_is_made_and_ended_by_hubs_that_are_killed(
    hub_objects: HubCluster, fleet: Fleet, hub_environment: dict[str, str], berlin: Berlin, tmp_path: Path
) -> None:
    """Each step is seen, then that hub is killed, and the next one goes on."""
    environment = hub_environment | berlin.environment() | {"FLOTILLA_HUB_WEBHOOK": "false"}
    # That it is taken when it has run out is tested elsewhere.
    environment |= {"FLOTILLA_HUB_LEASE_S": "15", "FLOTILLA_HUB_RENEW_S": "10"}
    logs: list[Path] = []

    async def let_go() -> None:
        """Of the lease, for the one that was killed."""
        await hub_objects.api.merge_patch(LEASES, "flotilla-system", LEASE, {"spec": {"holderIdentity": ""}})

    async def step(what: Callable[[], Any], text: str) -> None:
        directory = tmp_path / f"life-{len(logs)}"
        directory.mkdir()
        logs.append(directory)
        async with HubProcess(directory, environment):
            await until(what, text, within=120)
        await let_go()

    async with HubProcess(tmp_path, environment):

        async def installed_here() -> bool:
            return await hub_objects.api.discover(CLUSTERS) is not None

        await until(installed_here, "the definitions", within=120)
    await let_go()
    await create(hub_objects)
    await step(berlin.exists, "a Cluster of Cluster API")
    berlin.topologies.kubeconfigs["west"] = berlin.joined
    await step(berlin.file.exists, "the agents' kubeconfig")
    await step(shows(hub_objects, "Provisioned", "True", "Provisioned"), "that it is there")
    placed = await fleet.place_workload(Workload.model_validate(WEB), "asked")
    await fleet.report(placed, Phase.RUNNING, 1)
    await hub_objects.kubectl("delete", "clusters.cluster.k8s.io", "west", "--wait=false")
    await step(shows(hub_objects, "Drained", "False", "WaitingForRoom"), "what holds it up")
    await fleet.place_workload(Workload.model_validate(WEB), "asked", ("east",))
    await fleet.report(placed, Phase.RUNNING, 1, ("east",))
    # Before the kubeconfig goes: the hub that takes it away may come as far as the deletion before it is killed.
    berlin.topologies.paused = True
    await step(lambda: not berlin.file.exists(), "the agents' kubeconfig is gone")

    async def going() -> bool:
        found = await berlin.topologies.find("west")
        return found is not None and "deletionTimestamp" in found["metadata"]

    await step(going, "it is being deleted")
    berlin.topologies.paused = False
    await step(lambda: gone(hub_objects), "the Cluster is gone")
    assert not await berlin.exists()
    text = "".join(file.read_text() for directory in (tmp_path, *logs) for file in directory.glob("hub-*.log"))
    # Said of each answer; that the file was written is not, where the kill comes between the two.
    assert "asked for a cluster" in text
    assert TOKEN not in text
    assert VARIABLE not in text


async def test_a_secret_that_is_full_is_said_and_tried_again(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub, berlin: Berlin
) -> None:
    del fleet
    berlin.topologies.kubeconfigs["west"] = berlin.joined
    async with joining(berlin, hub_objects, "secret") as settings:
        full = {"metadata": {"name": KUBECONFIGS}, "stringData": {"filler": "x" * LIMIT_BYTES}}
        await hub_objects.api.create(SECRETS, HUB_NAMESPACE, {"apiVersion": "v1", "kind": "Secret", **full})
        async with run_hub(**settings):
            await create(hub_objects)
            await until(shows(hub_objects, "Provisioned", "False", "KubeconfigsFull"), "that there is no room")
            conditions = (await hub_objects.status(CLUSTERS, "west"))["conditions"]
            (said,) = (item["message"] for item in conditions if item["type"] == "Provisioned")
            assert f"Secret {HUB_NAMESPACE}/{KUBECONFIGS}" in said
            assert "install the chart flotilla-agent in this one" in said
            less = {"data": {"filler": None}}
            await hub_objects.api.merge_patch(SECRETS, HUB_NAMESPACE, KUBECONFIGS, less)
            await until(shows(hub_objects, "Provisioned", "True", "Provisioned"), "that there is room now")
            await until(berlin.file.exists, "the agents' kubeconfig")


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_a_management_cluster_that_does_not_answer_holds_nothing_else_up(
    hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub, berlin: Berlin
) -> None:
    silent = await asyncio.start_server(_say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    document = yaml.safe_load((berlin.management / "berlin").read_text())
    document["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{port}"
    (berlin.management / "silent").write_text(yaml.safe_dump(document))
    # One by one they would take longer than is waited for another.
    settings = berlin.settings() | {"hub_management_deadline_s": 2.0}
    async with silent, run_hub(**settings):
        for number in range(8):
            spec = {"provision": {**WEST["provision"], "management": "silent"}}
            body = manifest("Cluster", f"silent-{number}", spec)
            await hub_objects.kubectl("create", "-f", "-", stdin=body)
        body = manifest("Cluster", "unknown", {"provision": {**WEST["provision"], "management": "nobody"}})
        await hub_objects.kubectl("create", "-f", "-", stdin=body)
        await hub_objects.kubectl("create", "-f", "-", stdin=manifest("Cluster", "west", {}))
        await until(shows(hub_objects, "Declared", "True", "Published"), "another Cluster is worked on", within=12)

        async def condition(name: str) -> tuple[str, str]:
            return await hub_objects.condition(CLUSTERS, name, "Provisioned")

        async def both() -> bool:
            return await condition("silent-7") == ("Unknown", "ManagementUnavailable") and await condition(
                "unknown"
            ) == ("Unknown", "NotFound")

        await until(both, "why nothing comes")


async def test_what_was_made_cannot_be_made_elsewhere(
    hub_objects: HubCluster, run_hub: RunHub, berlin: Berlin, fleet: Fleet
) -> None:
    del fleet
    async with run_hub(**berlin.settings()):
        await create(hub_objects)
        for change in (
            {"op": "remove", "path": "/spec"},
            {"op": "replace", "path": "/spec", "value": {}},
            {"op": "add", "path": "/spec/provision/namespace", "value": "other"},
            {"op": "replace", "path": "/spec/provision", "value": {"provider": "simulator"}},
        ):
            # A patch, which the API server does again when the hub writes the status meanwhile.
            with pytest.raises(KubectlError, match="cannot be taken away"):
                await hub_objects.kubectl(
                    "patch", "clusters.cluster.k8s.io", "west", "--type=json", "-p", json.dumps([change])
                )
        await hub_objects.kubectl(
            "patch", "clusters.cluster.k8s.io", "west", "--type=merge", "-p", '{"spec":{"unschedulable":true}}'
        )
