"""How many replicas a scaled pod set is asked to have: what the autoscaler says, within the workload's bounds."""

from __future__ import annotations

from dataclasses import replace

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from shared.events.v1.decisions import Scaled, WorkloadPlaced
from shared.events.v1.workloads import FieldError, Workload

_SCALED = (Division.NODES, Division.DIVIDED)


def scaling_errors(workload: Workload, plans: tuple[PodSetPlan, ...]) -> tuple[FieldError, ...]:
    """What is wrong with scaling this pod set, by what it is."""
    plan = next((plan for plan in plans if plan.name == workload.scaled_pod_set), None)
    if workload.scaling is None or plan is None or (plan.division in _SCALED and plan.holds_room):
        return ()
    message = (
        f"pod set {plan.name!r} is not divided by replicas; scale one that is an image, a template, a Deployment, a "
        "StatefulSet or a ReplicaSet, and not at most once"
    )
    return (FieldError(field="workload.scaling.podSet", reason="Contradiction", message=message),)


def scaled_plans(workload: Workload, plans: tuple[PodSetPlan, ...], scaled: Scaled | None) -> tuple[PodSetPlan, ...]:
    """The plans, with as many replicas as the autoscaler wants; without a word of it as many as were asked for."""
    if workload.scaling is None or scaled is None:
        return plans
    name, desired = workload.scaled_pod_set, workload.scaling.bounded(scaled.replicas)
    return tuple(replace(plan, desired=desired, scaled=scaled) if plan.name == name else plan for plan in plans)


def scaled_in(placed: WorkloadPlaced) -> Scaled | None:
    """By which word of the autoscaler this was decided."""
    name = placed.workload.scaled_pod_set
    return next((item.scaled for item in placed.pod_sets if item.name == name), None) if name else None
