"""What is AWS's own: throttling and lost answers, whom a falling capacity takes, limits, and why nodes do not come."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from moto.backends import get_backend

from shared.adapters.clock import SystemClock
from shared.adapters.node_groups import Providers
from shared.adapters.node_groups.aws import DEADLINE_S
from shared.events.v1.commands import NodeGroupOrder
from shared.model.node_groups import (
    FORBIDDEN,
    NOT_FOUND,
    OUT_OF_STOCK,
    PROVIDER_UNAVAILABLE,
    REFUSED,
    NodeRef,
    is_out_of_stock,
)
from shared.ports.cluster_api import ClusterApi
from shared.ports.node_groups import ProviderError
from tests.contract.node_groups.aws import (
    ACCOUNT,
    EKS_CLUSTER,
    MOST,
    REGION,
    SOLD_OUT,
    ZONE,
    AwsBed,
    aws_bed,
    scaling_group,
)

GUIDE = Path(__file__).parents[3] / "docs" / "node-groups.md"
TERMINATE = "TerminateInstanceInAutoScalingGroup"
_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def group(moto_url: str, aws_environment: pytest.MonkeyPatch) -> AsyncIterator[AwsBed]:
    """An Auto Scaling group."""
    async with aws_bed(moto_url, "asg", f"aws-{next(_numbers)}") as bed:
        yield bed


@pytest_asyncio.fixture
async def managed(moto_url: str, aws_environment: pytest.MonkeyPatch) -> AsyncIterator[AwsBed]:
    """A managed node group of EKS."""
    async with aws_bed(moto_url, "eks", f"eks-{next(_numbers)}") as bed:
        yield bed


async def grown(bed: AwsBed, size: int) -> list[NodeRef]:
    await bed.provider.resize(size)
    nodes = await bed.nodes()
    assert len(nodes) == size
    bed.gate.asked.clear()
    return sorted(nodes, key=lambda node: node.name)


# --- answers that are none ---


async def test_who_is_throttled_asks_again(group: AwsBed) -> None:
    group.gate.failing = ["Throttling", "RequestLimitExceeded"]
    await group.provider.resize(2)
    assert len(await group.nodes()) == 2


async def test_attempts_end(group: AwsBed) -> None:
    group.gate.failing = ["Throttling"] * 10
    with pytest.raises(ProviderError, match="Throttling") as refused:
        await group.provider.resize(2)
    assert refused.value.reason == PROVIDER_UNAVAILABLE
    assert len(group.gate.asked) == 3


async def test_an_instance_whose_termination_was_not_answered_is_looked_for_and_not_named_again(group: AwsBed) -> None:
    nodes = await grown(group, 3)
    group.gate.failing = ["", "lost"]
    await group.provider.remove(nodes[2:])
    found = await group.provider.state(await group.nodes())
    assert (found.size, found.nodes) == (2, {node.name: False for node in nodes[:2]})
    assert group.gate.asked.count(TERMINATE) == 1


async def test_a_size_whose_answer_was_lost_is_not_asked_for_again(group: AwsBed) -> None:
    group.gate.failing = ["", "", "lost"]
    await group.provider.resize(3)
    assert len(await group.nodes()) == 3
    assert group.gate.asked.count("SetDesiredCapacity") == 1


async def test_who_does_not_answer_is_waited_for_until_the_calls_deadline(group: AwsBed) -> None:
    provider = group.provider_of(group.scaling, read_s=0.5)
    group.gate.open.clear()
    with pytest.raises(ProviderError, match="ReadTimeout") as refused:
        await provider.state(())
    assert refused.value.reason == PROVIDER_UNAVAILABLE
    assert len(group.gate.asked) == 3


async def test_after_the_deadline_nothing_is_asked_until_the_call_under_way_has_ended(group: AwsBed) -> None:
    provider = group.provider_of(group.scaling, read_s=30.0)
    # Making a client takes as long as the deadline that it is given now.
    await provider.state(())
    group.gate.asked.clear()
    provider._deadline_s = 1.0
    group.gate.open.clear()
    with pytest.raises(ProviderError, match="no answer within 1 s"):
        await provider.resize(2)
    assert group.gate.asked == ["DescribeAutoScalingGroups"]
    with pytest.raises(ProviderError, match="no answer within 1 s"):
        await provider.resize(2)
    assert group.gate.asked == ["DescribeAutoScalingGroups"], "the first call is still under way"
    group.gate.open.set()
    provider._deadline_s = DEADLINE_S
    await provider.resize(2)
    assert len(await group.nodes()) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("AccessDenied", FORBIDDEN),
        ("ExpiredToken", FORBIDDEN),
        ("ValidationError", REFUSED),
        ("InsufficientInstanceCapacity", OUT_OF_STOCK),
    ],
)
async def test_what_refuses_is_not_asked_again(group: AwsBed, code: str, reason: str) -> None:
    group.gate.failing = [code]
    with pytest.raises(ProviderError, match=code) as refused:
        await group.provider.resize(2)
    assert refused.value.reason == reason
    assert len(group.gate.asked) == 1


async def test_without_credentials_it_is_forbidden(group: AwsBed, aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ProviderError, match="credentials") as refused:
        await group.provider.state(())
    assert refused.value.reason == FORBIDDEN
    assert group.gate.asked == []


async def test_a_token_that_is_not_there_is_told(
    group: AwsBed, aws_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A service account's role, before its token is mounted."""
    aws_environment.delenv("AWS_ACCESS_KEY_ID")
    aws_environment.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{ACCOUNT}:role/executor")
    aws_environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ProviderError, match="No such file") as refused:
        await group.provider.state(())
    assert refused.value.reason == PROVIDER_UNAVAILABLE


# --- who leaves ---


async def test_an_instance_that_is_leaving_is_not_named_again(group: AwsBed) -> None:
    nodes = await grown(group, 2)
    leaving = next(s for s in scaling_group(group.scaling).instance_states if s.instance.id in nodes[0].provider_id)
    leaving.lifecycle_state = "Terminating:Wait"
    found = await group.provider.state(nodes)
    assert found.nodes == {nodes[0].name: True, nodes[1].name: False}
    await group.provider.remove(nodes[:1])
    assert TERMINATE not in group.gate.asked


async def test_a_smaller_size_takes_nobody_who_is_there(group: AwsBed) -> None:
    """AWS would choose whom."""
    nodes = await grown(group, 3)
    await group.provider.resize(1)
    found = await group.provider.state(nodes)
    assert (found.size, len(found.nodes)) == (3, 3)
    assert "SetDesiredCapacity" not in group.gate.asked


async def test_an_instance_without_a_node_is_counted_and_belongs_to_nobody(group: AwsBed) -> None:
    nodes = await grown(group, 3)
    found = await group.provider.state([nodes[0], NodeRef("elsewhere", "aws:///eu-west-1a/i-0"), NodeRef("bare")])
    assert (found.nodes, found.unjoined) == ({nodes[0].name: False}, 2)


# --- limits ---


async def test_more_than_the_group_may_have_is_asked_for_as_far_as_it_goes(group: AwsBed) -> None:
    with pytest.raises(ProviderError, match=f"0 to {MOST} nodes, not {MOST + 2}") as refused:
        await group.provider.resize(MOST + 2)
    assert refused.value.reason == OUT_OF_STOCK
    assert len(await group.nodes()) == MOST


async def test_fewer_than_the_group_must_have_is_refused(group: AwsBed) -> None:
    scaling_group(group.scaling).min_size = 1
    group.gate.stock = "none"
    await group.provider.resize(2)
    with pytest.raises(ProviderError, match="1 to 10 nodes, not 0") as refused:
        await group.provider.resize(0)
    assert refused.value.reason == REFUSED
    assert (await group.provider.state(())).size == 1


async def test_a_capacity_that_is_no_number_of_instances_is_refused(group: AwsBed) -> None:
    policy = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": group.scaling, "Version": "1"},
            "Overrides": [{"InstanceType": "m7i.large", "WeightedCapacity": "2"}],
        }
    }
    name, client = f"{group.scaling}-weighted", group.cloud.client("autoscaling")
    await asyncio.to_thread(
        client.create_auto_scaling_group,
        AutoScalingGroupName=name,
        MixedInstancesPolicy=policy,
        MinSize=0,
        MaxSize=4,
        AvailabilityZones=[ZONE],
    )
    with pytest.raises(ProviderError, match="not a number of instances") as refused:
        await group.provider_of(name).resize(2)
    assert refused.value.reason == REFUSED


# --- why nodes do not come ---


async def test_what_failed_before_says_nothing_of_what_is_asked_for_now(group: AwsBed) -> None:
    group.gate.activities = [("Failed", SOLD_OUT)]
    group.gate.stock = "late"
    await group.provider.resize(2)
    assert (await group.provider.state(())).reason == ""
    group.gate.activities += [("Successful", ""), ("Failed", SOLD_OUT), ("InProgress", "")]
    found = await group.provider.state(())
    assert (found.size, found.reason) == (2, OUT_OF_STOCK)
    assert found.message == SOLD_OUT
    group.gate.activities.append(("Successful", ""))
    assert (await group.provider.state(())).reason == ""


async def test_a_launch_that_fails_for_another_reason_is_refused(group: AwsBed) -> None:
    group.gate.stock = "late"
    await group.provider.resize(1)
    group.gate.activities = [("Failed", "The key pair 'nodes' does not exist. Launching EC2 instance failed.")]
    found = await group.provider.state(())
    assert found.reason == REFUSED
    assert "key pair" in found.message


@pytest.mark.parametrize(
    "said",
    [
        SOLD_OUT,
        "There is no Spot capacity available that matches your request. Launching EC2 instance failed.",
        "Your quota allows for 0 more running instance(s). You requested at least 1. Launching EC2 instance failed.",
        "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance bucket.",
        "There are not enough free addresses in subnet 'subnet-1' to satisfy the requested number of instances.",
        "Could not launch On-Demand Instances. InsufficientInstanceCapacity - there is none.",
    ],
)
def test_what_aws_says_when_it_has_none(said: str) -> None:
    assert is_out_of_stock(said)


async def test_what_eks_says_of_its_node_group_is_told_while_nodes_are_missing(managed: AwsBed) -> None:
    nodes = await grown(managed, 2)
    issue = {"code": "InsufficientFreeAddresses", "message": "subnet-1 is full", "resourceIds": ["subnet-1"]}
    node_groups()[managed.name].health = {"issues": [issue]}
    assert (await managed.provider.state(nodes)).reason == ""
    found = await managed.provider.state(nodes[:1])
    assert found.reason == OUT_OF_STOCK
    assert found.message == "InsufficientFreeAddresses: subnet-1 is full"


async def test_a_managed_node_group_that_was_made_anew_is_found_again(managed: AwsBed) -> None:
    await grown(managed, 1)
    await asyncio.to_thread(remake, managed)
    with pytest.raises(ProviderError) as refused:
        await managed.provider.state(())
    assert refused.value.reason == NOT_FOUND
    assert (await managed.provider.state(())).size == 0


def node_groups() -> dict[str, Any]:
    found: dict[str, Any] = get_backend("eks")[ACCOUNT][REGION].clusters[EKS_CLUSTER].nodegroups
    return found


def remake(bed: AwsBed) -> None:
    bed.cloud.client("eks").delete_nodegroup(clusterName=EKS_CLUSTER, nodegroupName=bed.name)
    bed.cloud.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=bed.scaling, ForceDelete=True)
    assert bed.cloud.make_node_group(bed.name) != bed.scaling


# --- what it takes ---


async def test_the_guides_policy_has_the_actions_that_are_asked_for_and_no_others(managed: AwsBed) -> None:
    nodes = await grown(managed, 2)
    await managed.provider.remove(nodes[1:])
    managed.sell_out()
    await managed.provider.resize(2)
    assert (await managed.provider.state(nodes[:1])).reason == OUT_OF_STOCK
    another = managed.provider_of("no-such-group")
    with pytest.raises(ProviderError):
        await another.state(())
    (text,) = re.findall(r"```json\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    actions = [action for statement in json.loads(text)["Statement"] for action in statement["Action"]]
    assert {action.partition(":")[2] for action in actions} == set(managed.gate.asked)


async def test_an_executor_asks_aws_where_an_order_names_it(
    group: AwsBed, moto_url: str, aws_environment: pytest.MonkeyPatch
) -> None:
    """Two groups at once share what is open."""
    aws_environment.setenv("AWS_ENDPOINT_URL", moto_url)
    providers, nowhere = Providers(SystemClock()), cast("ClusterApi", None)
    orders = [ordered(name) for name in (group.scaling, "no-such-group")]
    first, second = await asyncio.gather(*(providers.of(order, "east", nowhere) for order in orders))
    await first.resize(2)
    assert len(await group.nodes()) == 2
    with pytest.raises(ProviderError, match="no Auto Scaling group no-such-group"):
        await second.state(())
    await providers.close()
    with pytest.raises(ProviderError, match="closed"):
        await first.state(())


async def test_without_boto3_an_order_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("aws", "aws_calls"):
        monkeypatch.delitem(sys.modules, f"shared.adapters.node_groups.{name}")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ProviderError, match=r"flotilla\[aws\]") as refused:
        await Providers(SystemClock()).of(ordered("small"), "east", cast("ClusterApi", None))
    assert refused.value.reason == REFUSED


def ordered(name: str) -> NodeGroupOrder:
    return NodeGroupOrder.model_validate(
        {
            "group": "small",
            "provider": {"kind": "awsAutoScalingGroup", "region": REGION, "name": name},
            "template": {"allocatable": {"cpu": 1, "memory": "1Gi", "pods": 10}},
            "size": 1,
        }
    )
