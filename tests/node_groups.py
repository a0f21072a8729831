"""The autoscaler's view of what tests tell the scheduler, so that both can be asked the same; and records of node
groups as the log has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.autoscaler.decision.nodes.scheduling import Demand
from services.autoscaler.decision.nodes.seen import Node, NodeGroup, Pod, PodSet, Template
from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.seen.observed import allocatable, decode_node
from shared.events.topics import CLUSTERS, OBJECTS, PLACEMENTS, RESULTS
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import ClusterShare, PodSetPlacement, RequestRef, WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.results import CommandReported, NodeGroupReport
from shared.events.v1.workloads import Workload
from shared.model.identities import NODE_GROUP_LABEL, PRICE_LABEL, ZONE_LABEL, heartbeat_key
from shared.model.pods import PodShape
from shared.model.taints import Taint
from shared.ports.event_log import NewRecord

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


# --- as the log has it ---

CLUSTER = "east"


def declared(*groups: Json, cluster: str = CLUSTER) -> NewRecord:
    """A record of `fleet.clusters`."""
    body = ClusterDeclared.model_validate({"name": cluster, "nodeGroups": list(groups)})
    return NewRecord(CLUSTERS.name, cluster.encode(), body.to_json())


def group_json(name: str = "small", *, cpu: str = "4", most: int = 10, price: float = 1.0, **more: Any) -> Json:
    template = {"allocatable": {"cpu": cpu, "memory": "16Gi", "pods": "110"}}
    return {"name": name, "maxSize": most, "price": price, "template": template, "provider": {"kind": "kwok"}} | more


def heartbeat(at_ms: int, *, cluster: str = CLUSTER, ready: bool = True) -> NewRecord:
    beat = ClusterObserved(cluster=cluster, epoch=1, observed_at=at_ms, interval_ms=600_000, ready=ready)
    return NewRecord(OBJECTS.name, heartbeat_key(cluster).encode(), beat.to_json(), (), cluster.encode())


def node_json(group: str = "small", *, cpu: str = "4", ready: bool = True, **metadata: Any) -> Json:
    amounts = {"cpu": cpu, "memory": "16Gi", "pods": "110"}
    labels = {NODE_GROUP_LABEL: group} if group else {}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"labels": labels, **metadata},
        "spec": {},
        "status": {"capacity": amounts, "allocatable": amounts, "conditions": conditions},
    }


def object_at(path: str, document: Json | None, *, cluster: str = CLUSTER) -> NewRecord:
    value = None if document is None else orjson.dumps(document)
    return NewRecord(OBJECTS.name, f"{cluster}/{path}".encode(), value, (), cluster.encode())


def node_at(name: str, document: Json | None, *, cluster: str = CLUSTER) -> NewRecord:
    return object_at(f"core/v1/nodes/-/{name}", document, cluster=cluster)


def running_pod(node: str = "", *, cpu: str = "1", waits: bool = False, owner: str = "ReplicaSet", **more: Any) -> Json:
    """A pod on a node, or one for which its cluster has none. `more` goes into its spec and its metadata."""
    metadata = {"creationTimestamp": "2026-01-01T00:00:00Z", **more.pop("metadata", {})}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "web", "controller": True}]
    conditions = [{"type": "Ready", "status": "True"}] if node else []
    if waits:
        conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    spec = {"containers": [{"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}], **more}
    return {
        "metadata": metadata,
        "spec": {**spec, **({"nodeName": node} if node else {})},
        "status": {"phase": "Running" if node else "Pending", "conditions": conditions},
    }


def pod_at(name: str, document: Json | None, *, cluster: str = CLUSTER) -> NewRecord:
    return object_at(f"core/v1/pods/default/{name}", document, cluster=cluster)


def placement(
    document: Json, *, desired: int, shares: Mapping[str, Sequence[str]] | None = None, reason: str = "Unschedulable"
) -> WorkloadPlaced:
    """Of a workload with the pod set `main`: by cluster the nodes of those that have a place, the others wait."""
    found = tuple(
        ClusterShare(cluster=name, replicas=len(nodes), nodes=tuple(nodes)) for name, nodes in (shares or {}).items()
    )
    waits = desired > sum(share.replicas for share in found)
    pod_set = PodSetPlacement(name="main", desired=desired, shares=found, reason=reason if waits else "")
    return WorkloadPlaced(
        workload=Workload.model_validate(document),
        uid="u1",
        workload_generation=1,
        request=RequestRef(id="r", published_at=1),
        pod_sets=(pod_set,),
    )


def workload_json(name: str = "web", *, cpu: str = "1", replicas: int = 1, binding: str = "cluster") -> Json:
    main = {"name": "main", "image": "nginx", "replicas": replicas, "resources": {"requests": {"cpu": cpu}}}
    return {"name": name, "podSets": [main], "placement": {"binding": binding}}


def placed_at(placed: WorkloadPlaced | None, *, name: str = "web", generation: int = 1) -> NewRecord:
    value = None
    if placed is not None:
        value = PlacementPublished(epoch=1, generation=generation, decided_at=1, placement=placed).to_json()
    return NewRecord(PLACEMENTS.name, f"default/{name}".encode(), value)


def report_at(order: CommandIssued, *, reason: str = "", outcome: Any = "applied", **more: Any) -> NewRecord:
    """What an executor says of an order."""
    said = more.pop("node_group", None) or NodeGroupReport(group=order.subject.partition("/")[2], reason=reason)
    body = CommandReported(
        cluster=order.cluster,
        subject=order.subject,
        epoch=order.epoch,
        generation=order.generation,
        digest=order.digest,
        outcome=outcome,
        reported_at=1,
        node_group=said,
        **more,
    )
    key = f"{order.cluster}/{order.subject}".encode()
    return NewRecord(RESULTS.name, key, body.to_json(), (), order.cluster.encode())
