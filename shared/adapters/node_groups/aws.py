"""Node groups of AWS: Auto Scaling groups, and EKS's managed node groups, each of which has one.

A node's instance is what its provider id ends with, `aws:///<zone>/<instance>`. An instance leaves by
`TerminateInstanceInAutoScalingGroup`, which lowers the desired capacity by one in the same step: it is asked for only
after a look that shows the instance staying, so an attempt whose answer was lost is not made blindly again.

A managed node group is changed at its Auto Scaling group as well, as cluster-autoscaler does it, and EKS takes the
capacity over: `UpdateNodegroupConfig` names no instances, and is refused while another update runs.

Whom AWS takes when the desired capacity falls is its own choice. So it is never lowered below the instances that are
there, whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.adapters.node_groups.aws_calls import AwsCaller, AwsConnection
from shared.adapters.node_groups.retried import retried
from shared.events.v1.clusters import AwsAutoScalingGroup, AwsEksNodeGroup
from shared.model.node_groups import (
    NOT_FOUND,
    OUT_OF_STOCK,
    REFUSED,
    GroupState,
    NodeRef,
    is_out_of_stock,
)
from shared.ports.clock import Clock
from shared.ports.node_groups import ProviderError

DEADLINE_S: Final = 30.0
_ACTIVITIES: Final = 20
_ENDED: Final = frozenset({"Failed", "Successful", "Cancelled"})
_LEAVING: Final = ("Terminat", "Detach")


class Aws:
    """All of an executor's groups at AWS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._connection = AwsConnection()

    def provider(self, group: AwsAutoScalingGroup | AwsEksNodeGroup) -> AwsProvider:
        return AwsProvider(self._connection.caller(group.region), self._clock, group)

    async def close(self) -> None:
        await self._connection.close()


class AwsProvider:
    def __init__(
        self,
        caller: AwsCaller,
        clock: Clock,
        group: AwsAutoScalingGroup | AwsEksNodeGroup,
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._caller = caller
        self._clock = clock
        self._group = group
        self._deadline_s = deadline_s
        # The Auto Scaling group's; of a managed node group once EKS has said it.
        self._name = group.name if isinstance(group, AwsAutoScalingGroup) else ""
        # Activities that say nothing of the size that was asked for last.
        self._former: frozenset[str] = frozenset()

    async def state(self, nodes: Sequence[NodeRef]) -> GroupState:
        return await retried(self._clock, lambda: self._state(nodes), what="AWS", deadline_s=self._deadline_s)

    async def resize(self, size: int) -> None:
        await retried(self._clock, lambda: self._resize(size), what="AWS", deadline_s=self._deadline_s)

    async def remove(self, nodes: Sequence[NodeRef]) -> None:
        await retried(self._clock, lambda: self._remove(nodes), what="AWS", deadline_s=self._deadline_s)

    # Each of these begins with a look, so that it may be attempted again.

    async def _state(self, nodes: Sequence[NodeRef]) -> GroupState:
        found = await self._look()
        leaving = {item["InstanceId"]: _is_leaving(item) for item in found["Instances"]}
        joined = {node.name: name for node in nodes if (name := _instance(node)) in leaving}
        staying = {name for name, is_leaving in leaving.items() if not is_leaving}
        unjoined = len(staying.difference(joined.values()))
        size = int(found["DesiredCapacity"])
        problem = ""
        if size > len(staying):
            problem = await self._failed_launch()
        if not problem and size > len(staying) - unjoined:
            problem = await self._health_issues()
        reason = (OUT_OF_STOCK if is_out_of_stock(problem) else REFUSED) if problem else ""
        there = {node: leaving[name] for node, name in joined.items()}
        return GroupState(size, there, unjoined, reason, problem[:512])

    async def _resize(self, size: int) -> None:
        found = await self._look()
        least, most, asked = int(found["MinSize"]), int(found["MaxSize"]), int(found["DesiredCapacity"])
        staying = sum(not _is_leaving(item) for item in found["Instances"])
        wanted = max(min(max(size, least), most), min(staying, asked))
        if wanted > asked:
            self._former = frozenset(item["ActivityId"] for item in await self._activities())
        if wanted != asked:
            await self._caller.call(
                "autoscaling", "set_desired_capacity", AutoScalingGroupName=self._name, DesiredCapacity=wanted
            )
        if not least <= size <= most:
            # Where there are no more to be had, who wants more goes elsewhere.
            reason = OUT_OF_STOCK if size > most else REFUSED
            raise ProviderError(
                reason, f"the Auto Scaling group {self._name} may have {least} to {most} nodes, not {size}"
            )

    async def _remove(self, nodes: Sequence[NodeRef]) -> None:
        """What has begun to leave is not named again: that could lower the capacity a second time."""
        found = await self._look()
        staying = {item["InstanceId"] for item in found["Instances"] if not _is_leaving(item)}
        for instance in staying.intersection(map(_instance, nodes)):
            await self._caller.call(
                "autoscaling",
                "terminate_instance_in_auto_scaling_group",
                InstanceId=instance,
                ShouldDecrementDesiredCapacity=True,
            )

    async def _look(self) -> Mapping[str, Any]:
        """The Auto Scaling group as it is now."""
        if not self._name:
            self._name = await self._name_by_eks()
        name = self._name
        answer = await self._caller.call("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=[name])
        if not answer["AutoScalingGroups"]:
            if isinstance(self._group, AwsEksNodeGroup):
                # A managed node group that was made anew has another one.
                self._name = ""
            raise ProviderError(NOT_FOUND, f"there is no Auto Scaling group {name} in {self._group.region}")
        found: Mapping[str, Any] = answer["AutoScalingGroups"][0]
        _refuse_weights(found)
        return found

    async def _name_by_eks(self) -> str:
        found = await self._managed()
        groups = found.get("resources", {}).get("autoScalingGroups", [])
        if len(groups) != 1:
            message = f"the node group {self._group.name} has {len(groups)} Auto Scaling groups, not one"
            raise ProviderError(NOT_FOUND, message)
        return str(groups[0]["name"])

    async def _health_issues(self) -> str:
        if not isinstance(self._group, AwsEksNodeGroup):
            return ""
        issues = (await self._managed()).get("health", {}).get("issues", [])
        return "; ".join(f"{item.get('code', '')}: {item.get('message', '')}" for item in issues)

    async def _managed(self) -> Mapping[str, Any]:
        """The managed node group as EKS describes it."""
        assert isinstance(self._group, AwsEksNodeGroup)
        answer = await self._caller.call(
            "eks", "describe_nodegroup", clusterName=self._group.cluster, nodegroupName=self._group.name
        )
        found: Mapping[str, Any] = answer["nodegroup"]
        return found

    async def _failed_launch(self) -> str:
        """What the last launch says that has ended, since more were asked for, if it failed. They come newest first."""
        for item in await self._activities():
            new = item["ActivityId"] not in self._former and item.get("Description", "").startswith("Launching")
            if new and item["StatusCode"] in _ENDED:
                return str(item.get("StatusMessage", "")) if item["StatusCode"] == "Failed" else ""
        return ""

    async def _activities(self) -> Sequence[Mapping[str, Any]]:
        answer = await self._caller.call(
            "autoscaling", "describe_scaling_activities", AutoScalingGroupName=self._name, MaxRecords=_ACTIVITIES
        )
        found: Sequence[Mapping[str, Any]] = answer["Activities"]
        return found


def _instance(node: NodeRef) -> str:
    return node.provider_id.rpartition("/")[2]


def _is_leaving(instance: Mapping[str, Any]) -> bool:
    return str(instance.get("LifecycleState", "")).startswith(_LEAVING)


def _refuse_weights(group: Mapping[str, Any]) -> None:
    """Where the capacity is in units of something else than instances, a number of nodes means nothing."""
    overrides = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {}).get("Overrides", [])
    weighted = any(item.get("WeightedCapacity", "1") != "1" for item in overrides)
    if weighted or group.get("DesiredCapacityType", "units") != "units":
        message = f"the capacity of the Auto Scaling group {group['AutoScalingGroupName']} is not a number of instances"
        raise ProviderError(REFUSED, message)
