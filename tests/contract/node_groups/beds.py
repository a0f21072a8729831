"""Providers with something behind them: what the contract suite needs to know of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.node_groups.cluster_api import ClusterApiProvider
from shared.adapters.node_groups.kwok import KwokProvider
from shared.events.v1.clusters import ClusterApiGroup, NodeTemplate
from shared.model.identities import NODE_GROUP_LABEL
from shared.model.node_groups import NodeRef
from shared.ports.cluster_api import Selection
from shared.ports.node_groups import NodeGroupProvider
from tests.contract.node_groups.cluster_api import NAMESPACE, Machinery, install, uninstall
from tests.integration.executor.support import NODES

TEMPLATE = NodeTemplate.model_validate(
    {
        "allocatable": {"cpu": 4, "memory": "16Gi", "pods": 110, "example.com/gpu": 1},
        "labels": {"size": "small"},
        "taints": [{"key": "group", "value": "a", "effect": "NoSchedule"}],
    }
)


@dataclass(frozen=True)
class Bed:
    """A group of size 0. `nodes` are those that have joined; absent is what a provider does not have."""

    provider: NodeGroupProvider
    nodes: Callable[[], Awaitable[list[NodeRef]]]
    unreachable: NodeGroupProvider
    unknown: NodeGroupProvider | None = None
    sell_out: Callable[[], None] | None = None


async def nodes_of(api: KubernetesApi, group: str) -> list[NodeRef]:
    found = await api.list(NODES, Selection(labels=f"{NODE_GROUP_LABEL}={group}"))
    return [NodeRef(node["metadata"]["name"], node["spec"].get("providerID", "")) for node in found]


@asynccontextmanager
async def kwok(api: KubernetesApi, nowhere: KubernetesApi, group: str) -> AsyncIterator[Bed]:
    unreachable = KwokProvider(nowhere, group, TEMPLATE)
    try:
        yield Bed(KwokProvider(api, group, TEMPLATE), lambda: nodes_of(api, group), unreachable)
    finally:
        for node in await nodes_of(api, group):
            await api.delete(NODES, "", node.name)


@asynccontextmanager
async def cluster_api(api: KubernetesApi, nowhere: KubernetesApi, group: str, plural: str) -> AsyncIterator[Bed]:
    def provider(name: str, at: KubernetesApi = api) -> ClusterApiProvider:
        facts = {"resource": plural, "namespace": NAMESPACE, "name": name}
        return ClusterApiProvider(at, ClusterApiGroup.model_validate(facts))

    await install(api)
    try:
        async with Machinery(api, plural, f"{group}-md", group).running() as machinery:

            def sell_out() -> None:
                machinery.stock = 0

            yield Bed(
                provider(machinery.name),
                lambda: nodes_of(api, group),
                provider(machinery.name, nowhere),
                provider("no-such-group"),
                sell_out,
            )
    finally:
        await uninstall(api)
