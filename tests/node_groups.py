"""The autoscaler's view of what tests tell the scheduler, so that both can be asked the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.autoscaler.decision.nodes.scheduling import Demand
from services.autoscaler.decision.nodes.seen import Node, NodeGroup, Pod, PodSet, Template
from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.seen.observed import allocatable, decode_node
from shared.events.v1.workloads import Workload
from shared.model.identities import PRICE_LABEL, ZONE_LABEL
from shared.model.pods import PodShape
from shared.model.taints import Taint

Json = dict[str, Any]
GIBI = 1024**3


def demand_of(cpu: int, gibi: float = 1, **more: Any) -> Demand:
    """Of a pod that asks for so many thousandths of a core and GiB."""
    requests = (("cpu", cpu), ("memory", int(gibi * GIBI)), ("pods", 1))
    return Demand(PodShape(requests=requests, **more))


def group_of(
    name: str, cpu: int, gibi: int = 64, *, cluster: str = "one", size: int = 0, most: int = 10, **more: Any
) -> NodeGroup:
    template = Template({"cpu": cpu, "memory": gibi * GIBI, "pods": 110}, labels={"kind": name})
    return NodeGroup(cluster, name, template, size, most, **more)


def node_of(group: NodeGroup, name: str, *pods: Pod, **more: Any) -> Node:
    template = group.template
    facts: Json = {"labels": template.labels, "taints": template.taints, "zone": template.zone, "price": group.price}
    return Node(group.cluster, name, template.allocatable, group.name, pods=pods, **(facts | more))


def seen_node(cluster: str, name: str, document: Json, pods: Sequence[Pod] = ()) -> Node:
    """Of a node's JSON."""
    node = decode_node(orjson.dumps(document))
    labels = node.metadata.labels or {}
    return Node(
        cluster=cluster,
        name=name,
        allocatable=allocatable(node),
        labels=labels,
        taints=tuple(Taint.model_validate(taint) for taint in document["spec"]["taints"]),
        zone=labels.get(ZONE_LABEL, ""),
        price=_price(labels),
        ready=node.ready,
        unschedulable=node.spec.unschedulable,
        pods=tuple(pods),
    )


def _price(labels: Mapping[str, str]) -> float:
    try:
        return float(labels.get(PRICE_LABEL, "0"))
    except ValueError:
        return 0.0


def pod_sets_of(document: Json) -> list[PodSet]:
    """Of a workload that has no place yet."""
    workload = Workload.model_validate(document)
    plans, errors = plan_workload(workload, "nvidia.com/gpu")
    assert not errors, errors
    return [
        PodSet(f"default/{workload.name}/{plan.name}", plan.demand, plan.desired, facts=plan.facts(workload))
        for plan in plans
    ]
