"""Orders for groups at AWS, from the command to the instances: the simulator is the cluster, and moto is AWS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from services.executor.decision.node_groups import HANDED_OVER_ANNOTATION, REMOVAL_ANNOTATION
from shared.adapters.kubernetes import KubernetesApi
from shared.model.identities import NODE_GROUP_LABEL
from shared.model.node_groups import NodeRef
from tests.contract.node_groups.aws import EKS_CLUSTER, REGION, Cloud, scaling_group
from tests.integration.executor.conftest import CLUSTER, Bed
from tests.integration.executor.support import NODES, Running, until
from tests.integration.executor.test_node_groups import QUICK, nodes_of, order, reported, told
from tests.testbed.nodes import NodeShape

_POLL_S = 0.05


@asynccontextmanager
async def kubelets(api: KubernetesApi, cloud: Cloud, scaling: str, group: str) -> AsyncIterator[None]:
    """Each instance joins as a node, once. Nobody deletes the node of one that is gone."""
    joined: set[NodeRef] = set()

    async def run() -> None:
        while True:
            for ref in await asyncio.to_thread(cloud.nodes, scaling):
                if ref not in joined:
                    joined.add(ref)
                    manifest = NodeShape(labels={NODE_GROUP_LABEL: group}).manifest(ref.name)
                    manifest["spec"]["providerID"] = ref.provider_id
                    await api.create(NODES, "", manifest)
            await asyncio.sleep(_POLL_S)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("kind", ["awsAutoScalingGroup", "awsEksNodeGroup"])
async def test_a_group_at_aws_grows_and_gives_back_the_node_that_is_named(
    simulated: Bed, moto_url: str, aws_environment: pytest.MonkeyPatch, kind: str
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL", moto_url)
    group, cloud = kind.lower(), Cloud(moto_url)
    provider = {"kind": kind, "region": REGION, "name": group}
    if kind == "awsEksNodeGroup":
        provider["cluster"] = EKS_CLUSTER
        scaling = await asyncio.to_thread(cloud.make_node_group, group)
    else:
        scaling = group
        await asyncio.to_thread(cloud.make_group, group)
    async with (
        kubelets(simulated.api, cloud, scaling, group),
        Running(simulated.source, CLUSTER, **QUICK) as executor,
    ):
        executor.issue(order(group, 1, 3, provider=provider))
        await reported(executor, group, 1, outcome="applied", size=3, ready=3)
        names = [str(node["metadata"]["name"]) for node in await nodes_of(simulated, group)]
        executor.issue(order(group, 2, 2, names[2], provider=provider))
        await reported(executor, group, 2, outcome="applied", size=2, ready=2, removing=())
        executor.issue(order(group, 3, 11, provider=provider))
        report = await reported(executor, group, 3, outcome="failed", reason="OutOfStock")
        assert "0 to 10 nodes" in told(report).message
    left = {node["metadata"]["name"] for node in await nodes_of(simulated, group)}
    assert left.intersection(names) == set(names[:2])
    assert scaling_group(scaling).desired_capacity == 10


async def test_a_restart_names_no_instance_twice(
    simulated: Bed, moto_url: str, aws_environment: pytest.MonkeyPatch
) -> None:
    """An executor that was killed while an instance terminates leaves the capacity at what its order says."""
    aws_environment.setenv("AWS_ENDPOINT_URL", moto_url)
    group, cloud = "restarted", Cloud(moto_url)
    provider = {"kind": "awsAutoScalingGroup", "region": REGION, "name": group}
    await asyncio.to_thread(cloud.make_group, group)
    async with kubelets(simulated.api, cloud, group, group):
        first = Running(simulated.source, CLUSTER, **QUICK)
        await first.__aenter__()
        first.issue(order(group, 1, 2, provider=provider))
        await reported(first, group, 1, outcome="applied", size=2, ready=2)
        leaving, staying = [str(node["metadata"]["name"]) for node in await nodes_of(simulated, group)]
        await first.crash()
        # What the first one did last: the node is handed over, its instance terminates, the capacity is lower by it.
        marks = {REMOVAL_ANNOTATION: "1", HANDED_OVER_ANNOTATION: "true"}
        body = {"metadata": {"annotations": marks}, "spec": {"unschedulable": True}}
        await simulated.api.merge_patch(NODES, "", leaving, body)
        moto = scaling_group(group)
        states = {f"node-of-{state.instance.id}": state for state in moto.instance_states}
        states[leaving].lifecycle_state = "Terminating:Wait"
        moto.desired_capacity = 1
        async with Running(simulated.source, CLUSTER, first.log, **QUICK) as successor:
            successor.issue(order(group, 2, 1, leaving, provider=provider))
            await reported(successor, group, 2, outcome="applied", size=1, ready=1, removing=(leaving,))
            moto.instance_states.remove(states[leaving])

            async def gone() -> bool:
                return [node["metadata"]["name"] for node in await nodes_of(simulated, group)] == [staying]

            await until(gone, "its Node object is deleted, and nothing else")
        assert moto.desired_capacity == 1
        assert [state.instance.id for state in moto.instance_states] == [staying.removeprefix("node-of-")]
