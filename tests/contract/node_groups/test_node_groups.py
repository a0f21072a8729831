"""The contract of the `NodeGroupProvider` port: one suite on every provider."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec
from shared.adapters.kubernetes import KubernetesApi
from shared.model.node_groups import NOT_FOUND, OUT_OF_STOCK, PROVIDER_UNAVAILABLE, GroupState, NodeRef
from shared.ports.node_groups import ProviderError
from tests.contract.node_groups.aws import aws
from tests.contract.node_groups.beds import Bed, cluster_api, kwok
from tests.contract.node_groups.webhook import webhook
from tests.integration.executor.support import until

_numbers = itertools.count(1)
_ON_CLUSTERS = ("kwok", "machinedeployments", "machinepools")
_ON_REAL_ONES = [pytest.param((kind, "real"), id=f"{kind}-real", marks=pytest.mark.testbed) for kind in _ON_CLUSTERS]


_AT_AWS = ("asg", "eks")
_ELSEWHERE = [("webhook", ""), *((kind, "moto") for kind in _AT_AWS)]


@pytest.fixture(params=[*((kind, "simulated") for kind in _ON_CLUSTERS), *_ON_REAL_ONES, *_ELSEWHERE], ids=str)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The kind of provider, and where it is: a kubeconfig of the session's real cluster, or the URL of its moto."""
    name, where = request.param
    if where == "real":
        return name, str(request.getfixturevalue("real_cluster").kubeconfig)
    if where == "moto":
        request.getfixturevalue("aws_environment")
        return name, str(request.getfixturevalue("moto_url"))
    return name, where


@pytest_asyncio.fixture
async def where(kind: tuple[str, str], tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The same with the kubeconfig of a simulated cluster, for those that are on one."""
    if kind[1] != "simulated":
        yield kind
        return
    async with Simulator(kubeconfig_dir=tmp_path) as simulator:
        await simulator.add_cluster(ClusterSpec(name="east"))
        yield kind[0], str(tmp_path / "east.kubeconfig")


def _nowhere(directory: Path) -> Path:
    """An API server that is not there."""
    path = directory / "nowhere.yaml"
    path.write_text(
        "{apiVersion: v1, kind: Config, current-context: a, users: [{name: a, user: {token: t}}], "
        "contexts: [{name: a, context: {cluster: a, user: a}}], "
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]}"
    )
    return path


@pytest_asyncio.fixture
async def bed(where: tuple[str, str], tmp_path: Path) -> AsyncIterator[Bed]:
    kind, group = where[0], f"contract-{next(_numbers)}"
    if kind == "webhook":
        async with webhook(tmp_path, group) as bed:
            yield bed
        return
    if kind in _AT_AWS:
        async with aws(where[1], kind, group) as bed:
            yield bed
        return
    api = await KubernetesApi.from_kubeconfig(where[1])
    nowhere = await KubernetesApi.from_kubeconfig(_nowhere(tmp_path), deadline_s=5)
    opened = kwok(api, nowhere, group) if kind == "kwok" else cluster_api(api, nowhere, group, kind)
    async with opened as bed:
        yield bed
    await api.close()
    await nowhere.close()


async def state(bed: Bed) -> GroupState:
    return await bed.provider.state(await bed.nodes())


async def grown(bed: Bed, size: int) -> list[NodeRef]:
    """The group with so many nodes, in the order of their names."""
    await bed.provider.resize(size)

    async def there() -> bool:
        return len((await state(bed)).nodes) == size

    await until(there, f"{size} nodes")
    return sorted(await bed.nodes(), key=lambda node: node.name)


async def gone(bed: Bed, nodes: Sequence[NodeRef]) -> None:
    async def away() -> bool:
        return not {node.name for node in nodes} & (await state(bed)).nodes.keys()

    await until(away, f"{[node.name for node in nodes]} are gone")


async def test_a_group_grows_to_the_size_that_is_asked_for(bed: Bed) -> None:
    assert (await state(bed)).size == 0
    nodes = await grown(bed, 3)
    found = await state(bed)
    assert found == GroupState(3, dict.fromkeys((node.name for node in nodes), False))


async def test_a_size_that_is_asked_for_again_changes_nothing(bed: Bed) -> None:
    nodes = await grown(bed, 2)
    await bed.provider.resize(2)
    assert await grown(bed, 2) == nodes


async def test_the_nodes_that_are_named_leave_and_no_others(bed: Bed) -> None:
    """The last ones: a provider that chooses would take the first."""
    nodes = await grown(bed, 4)
    await bed.provider.remove(nodes[2:])
    await bed.provider.resize(2)
    await gone(bed, nodes[2:])
    found = await state(bed)
    assert (found.size, found.nodes) == (2, {node.name: False for node in nodes[:2]})


async def test_what_is_asked_again_after_a_crash_takes_nobody_else(bed: Bed) -> None:
    nodes = await grown(bed, 3)
    for _ in range(2):
        await bed.provider.remove(nodes[2:])
    for _ in range(2):
        await bed.provider.resize(2)
    await gone(bed, nodes[2:])
    await bed.provider.remove(nodes[2:])
    await bed.provider.resize(2)
    found = await state(bed)
    assert (found.size, found.nodes) == (2, {node.name: False for node in nodes[:2]})


async def test_a_group_grows_again_after_it_has_shrunk(bed: Bed) -> None:
    nodes = await grown(bed, 2)
    await bed.provider.remove(nodes[:1])
    await bed.provider.resize(1)
    await gone(bed, nodes[:1])
    again = await grown(bed, 3)
    assert nodes[1] in again
    assert nodes[0] not in again, "a node that is gone has taken its name along"


async def test_a_group_that_is_not_there_is_not_found(bed: Bed) -> None:
    if bed.unknown is None:
        pytest.skip("its groups are nothing but their nodes")
    for call in (bed.unknown.state(()), bed.unknown.resize(1)):
        with pytest.raises(ProviderError) as refused:
            await call
        assert refused.value.reason == NOT_FOUND


async def test_a_provider_that_does_not_answer_is_unavailable(bed: Bed) -> None:
    for call in (bed.unreachable.state(()), bed.unreachable.resize(1)):
        with pytest.raises(ProviderError) as refused:
            await call
        assert refused.value.reason == PROVIDER_UNAVAILABLE


async def test_nodes_that_are_not_to_be_had_are_out_of_stock(bed: Bed) -> None:
    if bed.sell_out is None:
        pytest.skip("it never runs out")
    nodes = await grown(bed, 1)
    bed.sell_out()
    await bed.provider.resize(3)

    async def told() -> bool:
        return (await state(bed)).reason == OUT_OF_STOCK

    await until(told, "it says that it has none")
    assert (await state(bed)).size == 3
    await bed.provider.resize(1)
    assert [node.name for node in nodes] == [*(await state(bed)).nodes]
