"""No queue waits for what it is guaranteed while others have that room for its not using it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from services.scheduler.decision.config import DEFAULT_QUEUE
from services.scheduler.decision.placing.allowance import QUEUE_LIMIT
from services.scheduler.decision.placing.purse import OVER_BUDGET
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.workloads import Binding
from shared.model.identities import POD_SET_LABEL, SCHEDULER_NAME
from shared.model.quantities import resource_amount
from tests.simulation.checker.capacity import requests_of, requests_of_replica
from tests.simulation.checker.clusters import is_alive, is_ready, workload_of
from tests.simulation.checker.evidence import Evidence, Place, Violation

Json = dict[str, Any]
_Amounts = Mapping[str, int]


def settled(evidence: Evidence) -> Iterator[Violation]:
    """A replica that would stay within its queue's guarantee waits for no node that had room for it without what others
    borrow there.

    Judged is what Flotilla binds, since of pods that others bind nobody knows which go; and who may be taken from
    without a second thought: queues without a guarantee, workloads without budgets that are no gangs and move nowhere.
    """
    evidence.take()
    guarantees = {
        name: {what: resource_amount(what, text) for what, text in queue["guarantee"].items()}
        for name, queue in evidence.queues.items()
        if queue.get("guarantee")
    }
    latest = {key: decision for key, (_, decision) in evidence.journal.latest.items() if not decision.deleting}
    if not guarantees or any(_is_special(decision) for decision in latest.values()):
        return
    used: dict[str, Counter[str]] = {name: Counter() for name in guarantees}
    for decision in latest.values():
        if (queue := _queue_of(decision, evidence)) in used:
            for pod_set, item in zip(decision.workload.pod_sets, decision.pod_sets, strict=True):
                used[queue].update(
                    {what: amount * item.placed for what, amount in requests_of_replica(pod_set).items()}
                )
    lenders = {key for key, decision in latest.items() if _queue_of(decision, evidence) not in guarantees}
    for key, decision in latest.items():
        queue, terms = _queue_of(decision, evidence), decision.workload.placement
        if queue not in guarantees or terms.binding is not Binding.NODE or not decision.preempts:
            continue
        for pod_set, item in zip(decision.workload.pod_sets, decision.pod_sets, strict=True):
            asked = requests_of_replica(pod_set)
            if not item.reason or item.reason in {QUEUE_LIMIT, OVER_BUDGET}:
                continue
            if not _is_entitled(guarantees[queue], used[queue], asked):
                continue
            for cluster, objects in evidence.objects.items():
                if terms.clusters and cluster not in terms.clusters:
                    continue
                if node := _reclaimable(objects, asked + Counter({"pods": 1}), latest, lenders):
                    message = f"one more of {item.name} stays within {queue}, and others borrow {cluster}/{node}"
                    yield Violation("not reclaimed", key, message)


def _is_special(decision: WorkloadPlaced) -> bool:
    """Whether more than one replica at a time decides: while such a workload waits or moves others may stand back."""
    waits = any(item.reason for item in decision.pod_sets)
    return bool(decision.withdrawn) or (
        any(item.leaving or (decision.workload.placement.gang and waits) for item in decision.pod_sets)
    )


def _queue_of(decision: WorkloadPlaced, evidence: Evidence) -> str:
    name = decision.workload.queue if decision.workload.queue is not None else decision.workload.namespace
    return name if name in evidence.queues else DEFAULT_QUEUE


def _is_entitled(guarantee: _Amounts, used: _Amounts, asked: _Amounts) -> bool:
    wanted = [what for what in guarantee if asked.get(what)]
    return bool(wanted) and all(used.get(what, 0) + asked[what] <= guarantee[what] for what in wanted)


def _reclaimable(
    objects: Mapping[Place, Json], wanted: Counter[str], latest: Mapping[str, WorkloadPlaced], lenders: set[str]
) -> str:
    """A node with room beside all but what the lenders' workloads borrow there; empty if there is none."""
    free: dict[str, Counter[str]] = {}
    for (resource, _, name), node in objects.items():
        if resource == "nodes" and is_ready(node) and not node["spec"].get("unschedulable"):
            if node["spec"].get("taints"):
                continue
            amounts = node.get("status", {}).get("allocatable") or {}
            free[name] = Counter({what: resource_amount(what, str(text)) for what, text in amounts.items()})
    for (resource, _, _), pod in objects.items():
        node_name = pod["spec"].get("nodeName") if resource == "pods" else None
        if node_name not in free or pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            continue
        if not _may_go(pod, latest, lenders):
            free[node_name].subtract(requests_of(pod))
    fits = (name for name, room in free.items() if all(room[what] >= amount for what, amount in wanted.items()))
    return next(fits, "")


def _may_go(pod: Json, latest: Mapping[str, WorkloadPlaced], lenders: set[str]) -> bool:
    key = workload_of(pod)
    if key not in lenders or pod["spec"].get("schedulerName") != SCHEDULER_NAME or not is_alive(pod):
        return False
    workload, name = latest[key].workload, (pod["metadata"].get("labels") or {}).get(POD_SET_LABEL)
    budget = next((item.disruption_budget for item in workload.pod_sets if item.name == name), None)
    return workload.placement.gang is None and budget is None
