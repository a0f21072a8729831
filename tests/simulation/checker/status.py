"""`fleet.status` converges to the truth."""

from __future__ import annotations

from collections.abc import Iterator

from shared.events.registry import decode
from shared.events.topics import STATUS
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.status import Phase, WorkloadStatus
from tests.simulation.checker.clusters import PODS, is_alive, is_ready, is_unschedulable, workload_of
from tests.simulation.checker.evidence import Evidence, Violation

_ENDED = frozenset({Phase.DELETED, Phase.REJECTED})
_WAITING = frozenset({Phase.PENDING, Phase.DEGRADED})


def check(evidence: Evidence) -> list[Violation]:
    evidence.take()
    said = {key: decode(WorkloadStatus, record.value) for key, record in evidence.latest(STATUS.name).items()}
    ready: dict[str, int] = {}
    for objects in evidence.objects.values():
        for place, obj in objects.items():
            if place[0] == PODS and is_ready(obj) and is_alive(obj):
                key = workload_of(obj)
                ready[key] = ready.get(key, 0) + 1
    stuck = {
        workload_of(obj)
        for objects in evidence.objects.values()
        for place, obj in objects.items()
        if place[0] == PODS and is_unschedulable(obj) and is_alive(obj)
    }
    violations: list[Violation] = []
    for key, (offset, placed) in evidence.journal.latest.items():
        status = said.pop(key, None)
        if status is None:
            violations.append(Violation("fleet.status", key, "is not there"))
        else:
            violations += _one(key, status, offset, placed, ready.get(key, 0), stuck=key in stuck)
    violations += [
        Violation("fleet.status", key, f"is {status.phase}, and there is no such workload")
        for key, status in said.items()
        if status.phase not in _ENDED
    ]
    return violations


def _one(
    key: str, status: WorkloadStatus, offset: int, placed: WorkloadPlaced, ready: int, *, stuck: bool
) -> Iterator[Violation]:
    if status.generation != offset:
        yield Violation("fleet.status", key, f"is about generation {status.generation}, not {offset}")
    desired = sum(pod_set.desired for pod_set in placed.pod_sets)
    waiting = any(pod_set.placed < pod_set.desired for pod_set in placed.pod_sets)
    if not _runs_for_ever(placed):
        if status.phase not in {Phase.SUCCEEDED, Phase.RUNNING, Phase.PENDING} and not (waiting or stuck):
            yield Violation("fleet.status", key, f"is {status.phase}")
        return
    if status.ready != ready:
        yield Violation("fleet.status", key, f"says that {status.ready} replicas are ready, and {ready} are")
    if waiting:
        if status.phase not in _WAITING:
            yield Violation("fleet.status", key, f"is {status.phase}, though replicas wait")
    elif ready == desired and status.phase is not Phase.RUNNING and not (stuck and status.phase is Phase.APPLIED):
        yield Violation("fleet.status", key, f"is {status.phase}, though all {desired} replicas are ready")
    elif ready < desired and not (stuck and status.phase in {Phase.DEGRADED, Phase.APPLIED}):
        yield Violation("fleet.status", key, f"{ready} of {desired} replicas are ready")


def _runs_for_ever(placed: WorkloadPlaced) -> bool:
    """Whether every pod set has pods that are to stay ready."""
    kinds = {(pod_set.manifest or {"kind": "Deployment"}).get("kind") for pod_set in placed.workload.pod_sets}
    return kinds <= {"Deployment", "StatefulSet", "ReplicaSet"}
