"""What the scheduler could not place, and what it placed whose pods are not there yet.

Nodes follow what was decided, and nothing else: more load asks for replicas (`fleet.scaling`), the scheduler decides on
them, and only those that found no place ask for nodes. So nothing is scaled up twice for one demand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.autoscaler.decision.nodes.scheduling import (
    Demand,
    Division,
    PlanCache,
    PodSetPlan,
    ShareKey,
    as_requested,
    plan_workload,
)
from services.autoscaler.decision.nodes.seen import NodeKey, PodSet
from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced

# The scheduler's reasons for which a node more may help. Who waits for money, a queue or a withdrawal waits on.
FOR_ROOM: Final = frozenset({"Unschedulable", "GangDoesNotFit", "Preempted"})
# Pods, and not copies of an object in clusters of which nobody knows how many there will be.
_OF_PODS: Final = frozenset({Division.DIVIDED, Division.NODES, Division.TOGETHER})


class Share(NamedTuple):
    """The replicas of a pod set in one cluster, by the nodes where room is held for them."""

    key: ShareKey
    nodes: tuple[str, ...]
    demand: Demand


class Owner(NamedTuple):
    """Whose pods wait: a workload, by key and uid."""

    workload: str
    uid: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Of the workload `uid`: who waits for room, and where the others are expected."""

    pending: tuple[PodSet, ...] = ()
    shares: tuple[Share, ...] = ()
    uid: str = ""


NOTHING: Final = Asked()
_MOST_PLANS = 4096


class WorkloadReader:
    """Plans workloads as the scheduler does; those that are alike once."""

    def __init__(self, gpu_resource: str) -> None:
        self._gpu_resource = gpu_resource
        self._plans = PlanCache(_MOST_PLANS)

    def read(self, placed: WorkloadPlaced) -> Asked:
        """What was accepted by a scheduler of another version, and cannot be planned here, asks for nothing."""
        if placed.deleting:
            return NOTHING
        workload = as_requested(placed.workload, placed.pod_sets)
        plans, errors = plan_workload(workload, self._gpu_resource, self._plans)
        if errors:
            return NOTHING
        by_name = {plan.name: plan for plan in plans}
        pending, shares = list[PodSet](), list[Share]()
        for item in placed.pod_sets:
            plan = by_name.get(item.name)
            if plan is None or plan.division not in _OF_PODS or not plan.holds_room:
                continue
            key = str(placed.workload.key)
            shares += (Share(ShareKey(key, item.name, each.cluster), each.nodes, plan.demand) for each in item.shares)
            pending += _pending(placed, item, plan)
        return Asked(tuple(pending), tuple(shares), placed.uid)


def _pending(placed: WorkloadPlaced, item: PodSetPlacement, plan: PodSetPlan) -> Iterator[PodSet]:
    count = item.desired - item.placed
    if count <= 0 or item.reason not in FOR_ROOM:
        return
    yield PodSet(
        key=f"{placed.workload.key}/{item.name}",
        demand=plan.demand,
        count=count,
        priority=placed.rank,
        requested_at=placed.request.published_at,
        desired=item.desired,
        placed=tuple(NodeKey(share.cluster, node) for share in item.shares for node in share.nodes),
        facts=plan.facts(placed.workload),
    )
