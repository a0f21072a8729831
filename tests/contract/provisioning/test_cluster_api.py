"""The contract of the `ClusterProvisioner` port, by Cluster API's own definition on both kinds of API servers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.provisioning import ClusterApiProvisioner
from shared.adapters.provisioning.cluster_api import CLUSTER_LABEL, MANAGER, OWNER_ANNOTATION, SECRETS
from shared.events.v1.provisioning import ClusterApiProvision
from shared.model.provisioning import (
    BAD_KUBECONFIG,
    NAME_CONFLICT,
    NO_KUBECONFIG,
    PROVISIONED,
    PROVISIONING,
    UPDATING,
    Stage,
    Standing,
)
from shared.ports.cluster_api import ApiError, ApplyOptions, ClusterApi, Object
from shared.ports.provisioning import KubeconfigError
from tests.contract.provisioning.topologies import NAMESPACE, Topologies, installed
from tests.integration.executor.support import until
from tests.testbed.cluster_api import definition
from tests.testbed.fixtures import needed

pytestmark = [pytest.mark.testbed]

OWNER = "11111111-1111-1111-1111-111111111111"
KUBECONFIG = b"apiVersion: v1\nkind: Config\n"
_numbers = itertools.count(1)


def wanted(**changes: Any) -> ClusterApiProvision:
    document: dict[str, Any] = {
        "namespace": NAMESPACE,
        "class": {"name": "quick-start", "namespace": "classes"},
        "version": "v1.36.3",
        "controlPlaneReplicas": 3,
        "workers": [
            {"name": "small", "class": "default-worker", "replicas": 2, "failureDomain": "a"},
            {"name": "scaled", "class": "default-worker"},
        ],
        "variables": [{"name": "region", "value": {"name": "eu", "zones": [1, 2]}}],
        "podCidrs": ["10.0.0.0/16"],
    }
    return ClusterApiProvision.model_validate(document | changes)


@pytest.fixture(params=["v1beta2", "v1beta1"])
def version(request: pytest.FixtureRequest) -> str:
    needed(definition)
    return str(request.param)


@pytest.fixture(params=["simulated", "real"])
def real_kubeconfig(request: pytest.FixtureRequest) -> Path | None:
    """Of the session's real cluster; None for a simulated one."""
    return Path(request.getfixturevalue("real_cluster").kubeconfig) if request.param == "real" else None


@pytest_asyncio.fixture
async def api(real_kubeconfig: Path | None, version: str, tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    """With Cluster API's definition, in one of its versions alone."""
    async with AsyncExitStack() as stack:
        kubeconfig = real_kubeconfig
        if kubeconfig is None:
            simulator = await stack.enter_async_context(Simulator(kubeconfig_dir=tmp_path))
            await simulator.add_cluster(ClusterSpec(name="management"))
            kubeconfig = tmp_path / "management.kubeconfig"
        api = await KubernetesApi.from_kubeconfig(kubeconfig)
        stack.push_async_callback(api.close)
        await stack.enter_async_context(installed(api, version))
        yield api


@pytest_asyncio.fixture
async def topologies(api: KubernetesApi, version: str) -> AsyncIterator[Topologies]:
    async with Topologies(api, version).running() as topologies:
        yield topologies


@pytest.fixture
def name() -> str:
    return f"made-{next(_numbers)}"


@pytest.fixture
def provisioner(api: KubernetesApi) -> ClusterApiProvisioner:
    async def connect(management: str) -> ClusterApi:
        assert management == ""
        return api

    return ClusterApiProvisioner(connect)


async def standing(
    apply: Callable[[], Awaitable[Standing]], stage: Stage, reason: str = "", within: float = 20.0
) -> Standing:
    found: list[Standing] = []

    async def reached() -> bool:
        found.append(await apply())
        return found[-1].stage is stage and reason in {"", found[-1].reason}

    await until(reached, f"{stage} {reason}", within=within, state=lambda: found[-1:])
    return found[-1]


async def test_what_is_wanted_becomes_a_topology(
    provisioner: ClusterApiProvisioner, topologies: Topologies, version: str, name: str
) -> None:
    assert (await provisioner.apply(name, OWNER, wanted())).stage is Stage.COMING
    found = await topologies.find(name)
    assert found is not None
    assert found["metadata"]["annotations"][OWNER_ANNOTATION] == OWNER
    assert found["spec"]["clusterNetwork"] == {"pods": {"cidrBlocks": ["10.0.0.0/16"]}}
    topology = found["spec"]["topology"]
    if version == "v1beta1":
        assert (topology.pop("class"), topology.pop("classNamespace")) == ("quick-start", "classes")
    else:
        assert topology.pop("classRef") == {"name": "quick-start", "namespace": "classes"}
    assert topology == {
        "version": "v1.36.3",
        "controlPlane": {"replicas": 3},
        "workers": {
            "machineDeployments": [
                {"name": "small", "class": "default-worker", "replicas": 2, "failureDomain": "a"},
                {"name": "scaled", "class": "default-worker"},
            ]
        },
        "variables": [{"name": "region", "value": {"name": "eu", "zones": [1, 2]}}],
    }


async def test_asking_again_changes_nothing(
    provisioner: ClusterApiProvisioner, topologies: Topologies, name: str
) -> None:
    topologies.paused = True
    await provisioner.apply(name, OWNER, wanted())
    before = await topologies.find(name)
    await provisioner.apply(name, OWNER, wanted())
    after = await topologies.find(name)
    assert before is not None
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_it_comes_is_changed_and_goes(
    provisioner: ClusterApiProvisioner, topologies: Topologies, name: str
) -> None:
    first = await standing(lambda: provisioner.apply(name, OWNER, wanted()), Stage.COMING, PROVISIONING)
    assert first.message
    with pytest.raises(KubeconfigError) as missing:
        await provisioner.kubeconfig(name, wanted())
    assert missing.value.reason == NO_KUBECONFIG
    topologies.kubeconfigs[name] = KUBECONFIG
    await standing(lambda: provisioner.apply(name, OWNER, wanted()), Stage.READY, PROVISIONED)
    assert await provisioner.kubeconfig(name, wanted()) == KUBECONFIG

    topologies.paused = True
    newer = wanted(
        version="v1.37.0", workers=[{"name": "large", "class": "default-worker", "replicas": 1}], variables=[]
    )
    changed = await provisioner.apply(name, OWNER, newer)
    assert (changed.stage, changed.reason) == (Stage.READY, UPDATING)
    topology = await topologies.topology(name)
    assert topology["version"] == "v1.37.0"
    assert [item["name"] for item in topology["workers"]["machineDeployments"]] == ["large"]
    assert not topology.get("variables")
    topologies.paused = False
    await standing(lambda: provisioner.apply(name, OWNER, newer), Stage.READY, PROVISIONED)

    await standing(lambda: provisioner.delete(name, OWNER, newer), Stage.ABSENT)
    assert await topologies.find(name) is None


async def test_what_others_scale_stays_theirs(
    api: KubernetesApi, provisioner: ClusterApiProvisioner, topologies: Topologies, name: str
) -> None:
    await provisioner.apply(name, OWNER, wanted())
    found = await topologies.find(name)
    assert found is not None
    body: Object = {"apiVersion": found["apiVersion"], "kind": "Cluster", "metadata": {"name": name}}
    workers = {"machineDeployments": [{"name": "scaled", "class": "default-worker", "replicas": 7}]}
    topology = {
        **{
            key: found["spec"]["topology"][key]
            for key in ("class", "classRef", "version")
            if key in found["spec"]["topology"]
        },
        "workers": workers,
    }
    await api.apply(
        topologies.resource, NAMESPACE, name, {**body, "spec": {"topology": topology}}, ApplyOptions("scaler")
    )
    await provisioner.apply(name, OWNER, wanted())
    scaled = (await topologies.topology(name))["workers"]["machineDeployments"][1]
    assert scaled == {"name": "scaled", "class": "default-worker", "replicas": 7}


async def test_what_somebody_changed_by_hand_is_put_right(
    api: KubernetesApi, provisioner: ClusterApiProvisioner, topologies: Topologies, name: str
) -> None:
    await provisioner.apply(name, OWNER, wanted())
    await api.merge_patch(topologies.resource, NAMESPACE, name, {"spec": {"topology": {"version": "v1.30.0"}}})
    await provisioner.apply(name, OWNER, wanted())
    assert (await topologies.topology(name))["version"] == "v1.36.3"


async def test_what_is_somebody_elses_is_left_alone(
    api: KubernetesApi, provisioner: ClusterApiProvisioner, topologies: Topologies, name: str
) -> None:
    other = "22222222-2222-2222-2222-222222222222"
    await provisioner.apply(name, other, wanted())
    before = await topologies.find(name)
    for call in (provisioner.apply, provisioner.delete):
        found = await call(name, OWNER, wanted(version="v1.37.0"))
        assert (found.stage, found.reason) == (Stage.FOREIGN, NAME_CONFLICT)
    after = await topologies.find(name)
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]
    assert "deletionTimestamp" not in after["metadata"]
    # It is handed over by the mark, as the message says.
    mark = {"metadata": {"annotations": {OWNER_ANNOTATION: OWNER}}}
    await api.merge_patch(topologies.resource, NAMESPACE, name, mark)
    await provisioner.apply(name, OWNER, wanted(version="v1.37.0"))
    assert (await topologies.topology(name))["version"] == "v1.37.0"


async def test_its_fields_have_one_manager(
    provisioner: ClusterApiProvisioner, topologies: Topologies, name: str
) -> None:
    await provisioner.apply(name, OWNER, wanted())
    found = await topologies.find(name)
    assert found is not None
    entries = {item["manager"]: item["operation"] for item in found["metadata"]["managedFields"]}
    assert entries[MANAGER] == "Apply"


async def test_a_kubeconfig_of_another_cluster_is_not_taken(
    api: KubernetesApi, provisioner: ClusterApiProvisioner, name: str
) -> None:
    for labels, value in (({}, "YQ=="), ({CLUSTER_LABEL: "other"}, "YQ=="), ({CLUSTER_LABEL: name}, "")):
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{name}-kubeconfig", "labels": labels},
            "data": {"value": value},
        }
        await api.apply(SECRETS, NAMESPACE, f"{name}-kubeconfig", body, ApplyOptions("test"))
        with pytest.raises(KubeconfigError) as refused:
            await provisioner.kubeconfig(name, wanted())
        assert refused.value.reason in {BAD_KUBECONFIG, NO_KUBECONFIG}
    await api.delete(SECRETS, NAMESPACE, f"{name}-kubeconfig")


async def test_a_server_without_cluster_api_says_so(tmp_path: Path, name: str) -> None:
    async with Simulator(kubeconfig_dir=tmp_path) as simulator:
        await simulator.add_cluster(ClusterSpec(name="bare"))
        bare = await KubernetesApi.from_kubeconfig(tmp_path / "bare.kubeconfig")

        async def connect(_: str) -> ClusterApi:
            return bare

        with pytest.raises(ApiError, match="Cluster API is not installed") as error:
            await ClusterApiProvisioner(connect).apply(name, OWNER, wanted())
        assert error.value.code == 404
        await bare.close()
