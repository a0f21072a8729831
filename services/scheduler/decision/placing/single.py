"""The usual case, by the shortest way: a workload that is new, of one pod, which has a place.

What comes out is what `PodSetDraft` makes of it, which keeps, gives up and divides replicas: nothing of that is to be
done here.
"""

from __future__ import annotations

from services.scheduler.decision.asked.admission import PodSetPlan
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.placing.explanations import choice_of
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.slots import Hold
from shared.events.v1.decisions import PodSetPlacement
from shared.events.v1.workloads import Workload


def place_single(
    fleet: Fleet, workload: Workload, plan: PodSetPlan, avoid: frozenset[int]
) -> tuple[PodSetPlacement, dict[str, list[Hold]]] | None:
    """The outcome of a plan that is `single`, and the room that was taken, by cluster; None where there is none.

    `avoid` are indexes of clusters that are left out.
    """
    facts, ordinals = plan.facts(workload), (0,) if plan.division is Division.NODES else ()
    profile = fleet.profile_for(plan.demand, facts)
    row = profile.best(None, avoid)
    if row is None:
        return None
    choice = choice_of(fleet, row, profile.compare(row, None, avoid), None, None)
    slot = fleet.slots.by_row(row)
    hold = fleet.slots.hold(slot, profile.request, None, facts)
    share = {"cluster": slot.cluster, "replicas": 1, "nodes": (slot.name,), "ordinals": ordinals}
    outcome = PodSetPlacement.model_validate(
        {"name": plan.name, "desired": 1, "shares": (share,), "why": {"choices": (choice,)}}
    )
    return outcome, {slot.cluster: [hold]}
