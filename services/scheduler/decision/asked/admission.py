"""From a workload to the plan of each pod set, or to everything that is wrong with it.

The message's own model has checked what one field allows. Here is what needs Kubernetes' rules or several fields:
pod templates, and contradictions between the pod set, its manifest and the placement terms (`planning`); and what needs
several pod sets. Every error names the field by its path in the request.
"""

from __future__ import annotations

from dataclasses import replace

from services.scheduler.decision.asked.checking import Errors
from services.scheduler.decision.asked.dependencies import followed
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plan_cache import PlanCache
from services.scheduler.decision.asked.planning import Planner
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.asked.requested import vertical_errors
from services.scheduler.decision.asked.scaled import scaling_errors
from shared.events.v1.workloads import Binding, FieldError, Workload

_MAX_ERRORS = 16
# A decision states the whole outcome and names a node for each replica: it has to fit one record of 16 MiB, also where
# every name has its full length.
MAX_WORKLOAD_REPLICAS = 40_000


def plan_workload(
    workload: Workload, gpu_resource: str, known: PlanCache | None = None, *, images: bool = False
) -> tuple[tuple[PodSetPlan, ...], tuple[FieldError, ...]]:
    """Plans in the order of the pod sets; without errors there is one for each.

    `images`: pods of different images are not alike. Always the same for plans of one cache.
    """
    pod_sets = workload.pod_sets
    if known is not None and len(pod_sets) == 1:
        # As nearly all are.
        alone = known.find(workload, pod_sets[0])
        followed = workload.scaling is not None or workload.vertical is not None
        if alone is not None and alone[0].desired <= MAX_WORKLOAD_REPLICAS and not followed:
            return alone, ()
    errors: list[FieldError] = []
    plans: list[PodSetPlan] = []
    for index, pod_set in enumerate(pod_sets):
        before = known.find(workload, pod_set) if known is not None else None
        if before is not None:
            plan = before[0]
        else:
            found: list[FieldError] = []
            planner = Planner(workload, pod_set, gpu_resource, images=images)
            plan = planner.plan(Errors(f"workload.podSets.{index}", found))
            if known is not None and not found:
                known.put(workload, pod_set, plan)
            errors += found
        plans.append(plan)
    if len(plans) > 1:
        _check_names(workload, errors)
        if not errors and any(plan.division is Division.TOGETHER and not plan.holds_room for plan in plans):
            plans = _following(workload, plans)
    if not errors:
        errors += (*scaling_errors(workload, tuple(plans)), *vertical_errors(workload))
    most = {workload.scaled_pod_set: workload.scaling.max_replicas} if workload.scaling is not None else {}
    total = sum(max(plan.desired, most.get(plan.name, 0)) for plan in plans)
    if total > MAX_WORKLOAD_REPLICAS:
        message = f"{total} replicas are more than one workload may have: {MAX_WORKLOAD_REPLICAS}; use several"
        errors.append(FieldError(field="workload.podSets", reason="TooLarge", message=message))
    return tuple(plans), tuple(errors[:_MAX_ERRORS])


def _following(workload: Workload, plans: list[PodSetPlan]) -> list[PodSetPlan]:
    """The plans, with those that follow others doing so. Not part of what is cached: it takes all pod sets to know."""
    leaders = followed(workload)
    return [
        replace(plan, division=Division.FOLLOWS, follows=leaders[plan.name], sharing=None)
        if plan.name in leaders
        else plan
        for plan in plans
    ]


def _check_names(workload: Workload, errors: list[FieldError]) -> None:
    """Two pod sets must not be one object in a cluster."""
    seen: dict[tuple[str, str], str] = {}
    for index, pod_set in enumerate(workload.pod_sets):
        manifest = pod_set.manifest or {}
        metadata = manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        kind = str(manifest.get("kind", "Deployment"))
        identity = (kind, str(name or f"{workload.name}-{pod_set.name}"))
        # Bound pods have names of their own.
        if identity in seen and (workload.placement.binding is Binding.CLUSTER or kind != "Pod"):
            message = f"{kind} {identity[1][:80]!r} is that of pod set {seen[identity]!r} too"
            field = f"workload.podSets.{index}.manifest.metadata.name"
            errors.append(FieldError(field=field, reason="Contradiction", message=message))
        seen[identity] = pod_set.name
