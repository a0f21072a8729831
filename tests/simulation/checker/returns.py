"""What asked for it is back in the clusters that it had to leave, once these are well and have room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from shared.events.v1.decisions import PodSetPlacement
from shared.model.quantities import resource_amount
from tests.simulation.checker.capacity import requests_of, requests_of_replica
from tests.simulation.checker.clusters import is_ready
from tests.simulation.checker.evidence import Evidence, Place, Violation
from tests.simulation.checker.silence import Heartbeats, unasked

Json = dict[str, Any]
# Without a heartbeat for so long, a cluster is silent for every leader.
_SILENT_MS = 19_000


def settled(evidence: Evidence) -> Iterator[Violation]:
    """Nothing that runs elsewhere is away from a cluster that has a node with room for it, while nobody waits."""
    evidence.take()
    latest = [decision for _, decision in evidence.journal.latest.values() if not decision.deleting]
    if any(item.reason for decision in latest for item in decision.pod_sets):
        return
    for decision in latest:
        terms = decision.workload.placement
        if terms.max_price_per_hour is not None:
            # The way back may cost more than is left.
            continue
        for pod_set, item in zip(decision.workload.pod_sets, decision.pod_sets, strict=True):
            for home, count in item.away.items():
                guests = sum(share.kept for share in item.shares if share.cluster != home)
                eligible = guests and (not terms.clusters or home in terms.clusters)
                asked = requests_of_replica(pod_set)
                if eligible and asked and _has_room(evidence.objects.get(home, {}), asked):
                    key = str(decision.workload.key)
                    yield Violation("not returned", key, f"{count} of {item.name} are away from {home}, which has room")


def _has_room(objects: Mapping[Place, Json], asked: Counter[str]) -> bool:
    free: dict[str, Counter[str]] = {}
    for (resource, _, name), node in objects.items():
        if resource == "nodes" and is_ready(node) and not node["spec"].get("unschedulable"):
            amounts = node.get("status", {}).get("allocatable") or {}
            free[name] = Counter({what: resource_amount(what, str(text)) for what, text in amounts.items()})
    for (resource, _, _), pod in objects.items():
        node_name = pod["spec"].get("nodeName") if resource == "pods" else None
        if node_name in free and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}:
            free[node_name].subtract(requests_of(pod))
    wanted = asked + Counter({"pods": 1})
    return any(all(room[what] >= amount for what, amount in wanted.items()) for room in free.values())


def check(evidence: Evidence) -> Iterator[Violation]:
    """What leaves a cluster that is silent is counted as away from it, and from no other: all that are not there at
    most.
    """
    evidence.take()
    beats = Heartbeats(evidence.history)
    for at_ms, _, decision, before, after in unasked(evidence):
        if not decision.workload.placement.failback or before.returning:
            continue
        for cluster, left in _left(before, after).items():
            known = after.away.get(cluster, 0) - before.away.get(cluster, 0)
            elsewhere = after.desired - sum(share.kept for share in after.shares if share.cluster == cluster)
            if beats.silent_ms(cluster, at_ms) > _SILENT_MS and known < left and after.away.get(cluster, 0) < elsewhere:
                key = str(decision.workload.key)
                yield Violation("forgotten home", key, f"{left} of {after.name} left {cluster}, and {known} are away")


def _left(before: PodSetPlacement, after: PodSetPlacement) -> Counter[str]:
    """By cluster, how many of those that were leaving have left."""
    have = {share.cluster: share for share in after.shares}
    found: Counter[str] = Counter()
    for share in before.shares:
        now = have.get(share.cluster)
        if share.leaving and now is None and not share.kept:
            found[share.cluster] = share.leaving
    return found
