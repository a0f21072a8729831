"""A gang is whole or nothing at each decision, but for what it lost."""

from __future__ import annotations

from collections.abc import Iterator

from shared.events.v1.decisions import PodSetPlacement, WorkloadPlaced
from shared.events.v1.workloads import PodSet
from tests.simulation.checker.evidence import Evidence, Violation

_WITH_PODS = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "Job", "Pod"})


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    former: dict[str, WorkloadPlaced] = {}
    for (offset, key), decision in evidence.journal.decided.items():
        before = former.get(key)
        former[key] = decision
        for problem in torn(before if before is not None and before.uid == decision.uid else None, decision):
            yield Violation("torn gang", key, f"{problem} at {offset}")


def torn(before: WorkloadPlaced | None, decision: WorkloadPlaced) -> Iterator[str]:
    """What is wrong with a decision that follows another on the same workload.

    Fewer replicas than have to be together have a place only if they had it before, or replace what was lost; and none
    of several pod sets that start together comes to any while another has none.
    """
    gang = decision.workload.placement.gang
    if gang is None or decision.deleting:
        return
    past = {item.name: item for item in before.pod_sets} if before is not None and not before.deleting else {}
    short, begun = [], []
    for pod_set, item in zip(decision.workload.pod_sets, decision.pod_sets, strict=True):
        if not _has_pods(pod_set):
            continue
        needed = min(gang.min_count.get(item.name, item.desired), item.desired)
        had = _had(past.get(item.name))
        if item.placed < needed:
            short.append(item.name)
            if item.placed > had:
                yield f"{item.name} has {item.placed} of {needed} that start together, and had {had}"
        elif not had and item.placed:
            begun.append(item.name)
    if gang.scope == "workload" and short and begun:
        yield f"{', '.join(begun)} began, and {', '.join(short)} found no room"


def _had(item: PodSetPlacement | None) -> int:
    """How many had a place, or had it together before some of them were lost."""
    return max(item.placed, item.started or 0) if item is not None and item.placed else 0


def _has_pods(pod_set: PodSet) -> bool:
    return pod_set.manifest is None or pod_set.manifest.get("kind") in _WITH_PODS
