"""From a verdict to the words that are published: counts over sets and clusters, and the whole `WorkloadStatus`."""

from __future__ import annotations

from msgspec import UNSET, structs

from services.status.decision.assess import ClusterVerdict, Fault, Verdict
from services.status.decision.plan import Mode, Plan, SetPlan
from services.status.decision.tracked import Tracked
from services.status.decision.values import (
    ClusterStatus,
    Condition,
    Counts,
    Milestones,
    PodSetStatus,
    Template,
    WorkloadStatus,
)
from shared.events.v1.status import Phase, WorkloadPhaseChanged

_NONE = Counts()


def status_of(
    tracked: Tracked,
    plan: Plan,
    verdict: Verdict,
    *,
    phase: Phase,
    fault: Fault,
    conditions: tuple[Condition, ...],
    milestones: Milestones,
    step: int,
    updated_at: int,
) -> WorkloadStatus:
    return WorkloadStatus(
        namespace=tracked.namespace,
        name=tracked.name,
        uid=plan.uid,
        phase=phase,
        generation=plan.generation,
        workload_generation=plan.workload_generation,
        request_id=plan.request_id,
        desired=verdict.desired,
        ready=verdict.ready,
        reason=fault.reason,
        message=fault.message,
        conditions=conditions,
        pod_sets=tuple(_set_status(item, verdict, tracked.since.get(item.name, 0)) for item in plan.sets),
        clusters=tuple(_cluster_status(part, tracked) for part in verdict.clusters),
        milestones=milestones,
        step=step,
        updated_at=updated_at,
    )


def event_of(status: WorkloadStatus, previous: Phase | None, changed_at: int) -> WorkloadPhaseChanged:
    return WorkloadPhaseChanged(
        namespace=status.namespace,
        name=status.name,
        uid=status.uid,
        previous=previous,
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        generation=status.generation,
        workload_generation=status.workload_generation,
        request_id=status.request_id,
        step=status.step,
        changed_at=changed_at,
    )


def _set_status(item: SetPlan, verdict: Verdict, since: int) -> PodSetStatus:
    parts = [place.counts for part in verdict.clusters for place in part.places if place.pod_set == item.name]
    total = total_of(parts)
    desired = total.desired if item.mode is Mode.DAEMON else item.desired
    if (total.desired, total.placed) != (desired, item.placed):
        total = structs.replace(total, desired=desired, placed=item.placed)
    template = Template(digest=item.template, generation=since) if item.template else UNSET
    return PodSetStatus(name=item.name, counts=total, template=template)


def _cluster_status(part: ClusterVerdict, tracked: Tracked) -> ClusterStatus:
    fault = part.fault or (Fault("ClusterSilent", "no heartbeat") if part.silent else Fault(""))
    if part.left:
        # Goes before what its executor once reported, to which nobody will attend any more.
        fault = Fault("ClusterLeft", "no longer in the fleet")
    if part.cluster not in tracked.wanted and not fault.reason:
        fault = Fault("Withdrawing")
    return ClusterStatus(
        cluster=part.cluster,
        counts=total_of([place.counts for place in part.places]),
        pod_sets=tuple(PodSetStatus(name=place.pod_set, counts=place.counts) for place in part.places),
        generation=UNSET if part.generation is None else part.generation,
        applied=part.applied,
        stale=part.silent or part.left,
        reason=fault.reason,
        message=fault.message,
        digest=part.digest,
    )


def total_of(parts: list[Counts]) -> Counts:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _NONE
    return Counts(
        desired=sum(part.desired for part in parts),
        placed=sum(part.placed for part in parts),
        pods=sum(part.pods for part in parts),
        running=sum(part.running for part in parts),
        ready=sum(part.ready for part in parts),
        succeeded=sum(part.succeeded for part in parts),
        failed=sum(part.failed for part in parts),
    )
