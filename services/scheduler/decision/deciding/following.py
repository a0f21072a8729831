"""What the autoscaler says of a workload, as plans: how many replicas, and what their containers request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.asked.requested import requested_of, requested_plans, with_requested
from services.scheduler.decision.asked.scaled import scaled_plans
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.seen.recommendations import Recommendations, RequestsSaid
from shared.events.v1.decisions import Requested, Scaled
from shared.events.v1.vertical import ContainerRequests
from shared.events.v1.workloads import FieldError, Workload

Plans = tuple[PodSetPlan, ...]
Planned = tuple[Plans, tuple[FieldError, ...]]


class Following:
    """`plan` makes plans of what a workload states."""

    def __init__(self, recommendations: Recommendations, plan: Callable[[Workload], Planned]) -> None:
        self._recommendations, self._plan = recommendations, plan

    def changed(self, workload: Workload, plans: Plans, record: WorkloadRecord) -> Plans:
        """The plans of a workload that is changed, with what was said of it as it was."""
        if workload.vertical is not None:
            plans = self._requesting(workload, plans, self._requested(workload, record))
        return scaled_plans(workload, plans, self._scaled(workload, record))

    def now(self, record: WorkloadRecord) -> Plans | None:
        """The plans of a workload that is as it was; None where nothing else was said than was decided."""
        workload = record.placed.workload
        plans = scaled_plans(workload, self._requesting_now(record), self._scaled(workload, record))
        return plans if [_said(plan) for plan in plans] != [_said(plan) for plan in record.plans] else None

    def _scaled(self, workload: Workload, record: WorkloadRecord) -> Scaled | None:
        if workload.scaling is None:
            return None
        name = workload.scaled_pod_set
        placement = record.placement(name)
        decided = placement.scaled if placement is not None else None
        return self._recommendations.of(record.key, record.placed.uid, name, decided)

    # --- what is requested ---

    def _requesting_now(self, record: WorkloadRecord) -> Plans:
        """What is there is made anew only where the workload wants that."""
        workload = record.placed.workload
        if workload.vertical is None or not workload.vertical.rolls:
            return record.plans
        requested = self._requested(workload, record)
        if all(_contents(requested.get(plan.name)) == _contents(plan.requested) for plan in record.plans):
            return record.plans
        plans, errors = self._plan(workload)
        return self._requesting(workload, plans, requested) if not errors else record.plans

    def _requesting(self, workload: Workload, plans: Plans, requested: Mapping[str, Requested]) -> Plans:
        if not requested:
            return plans
        changed, errors = self._plan(with_requested(workload, requested))
        return requested_plans(changed, requested) if not errors else plans

    def _requested(self, workload: Workload, record: WorkloadRecord) -> dict[str, Requested]:
        """By pod set, within what the workload allows now."""
        found: dict[str, Requested] = {}
        if workload.vertical is None or not workload.vertical.applies:
            return found
        for pod_set in workload.pod_sets:
            placement = record.placement(pod_set.name)
            decided = _as_said(placement.requested) if placement is not None else None
            said = self._recommendations.requests(record.key, record.placed.uid, pod_set.name, decided)
            containers = requested_of(workload, pod_set, said.containers) if said is not None else ()
            if said is not None and containers:
                found[pod_set.name] = Requested(containers=containers, position=said.position)
        return found


def _said(plan: PodSetPlan) -> tuple[int, Sequence[object]]:
    return plan.desired, _contents(plan.requested)


def _contents(requested: Requested | None) -> Sequence[object]:
    return requested.containers if requested is not None else ()


def _as_said(requested: Requested | None) -> RequestsSaid | None:
    """What was decided, as it would have been said."""
    if requested is None:
        return None
    containers = tuple(
        ContainerRequests(name=item.name, cpu=item.requests.get("cpu"), memory=item.requests.get("memory"))
        for item in requested.containers
    )
    return RequestsSaid(containers, requested.position)
