"""The usual case, by the shortest way: workloads that are new, of one pod each, which have a place.

What comes out is what `PodSetDraft` makes of each, one after the other; it keeps, gives up and divides replicas, and
nothing of that is to be done here. Several that come in a row are decided step by step for all of them together, not
one by one: a step done again at once finds its code and data in the processor's caches, which is most of what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from services.scheduler.decision.asked.admission import PodSetPlan
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.priorities import Importance
from services.scheduler.decision.placing.explanations import choice_of
from services.scheduler.decision.scoring.kernel import MOST
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.scoring.runs import take_places
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.slots import Hold
from services.scheduler.decision.table.neighbours import PodFacts
from shared.events.v1.decisions import PodSetPlacement, RequestRef, WorkloadPlaced
from shared.events.v1.workloads import Workload


class Admitted(NamedTuple):
    """A request that can be decided upon. `single`: it is a new workload of one pod, so that what is here will do."""

    key: str
    workload: Workload
    plans: tuple[PodSetPlan, ...]
    ref: RequestRef
    importance: Importance
    single: bool


class Place(NamedTuple):
    """Where a pod goes, the room that it has there, and the choice as it stands in the decision."""

    hold: Hold
    choice: dict[str, Any]


class _Pod(NamedTuple):
    single: Admitted
    profile: Profile
    facts: PodFacts | None


def place_singles(
    fleet: Fleet, run: Sequence[Admitted], avoided: Sequence[frozenset[int]]
) -> tuple[list[Place | Exception], bool]:
    """Room for each one's pod, in their order; and whether it ended since the next has no place.

    `avoided` are indexes of clusters, for each. They count in the mix from then on. It ends earlier where the next
    choice depends on more than where the pod goes.
    """
    places: list[Place | Exception] = []
    while len(places) < len(run):
        before = len(places)
        pods = _for_kernel(fleet, run[before:], avoided[before:])
        if len(pods) > 1:
            places += _place_by_kernel(fleet, pods)
        else:
            places += _place_one(fleet, run[before], avoided[before])
        if before < len(places) and _is_known(fleet, run[len(places) - 1], places[-1]):
            return places, False
        if len(places) - before < max(len(pods), 1):
            return places, True
    return places, False


def _for_kernel(fleet: Fleet, run: Sequence[Admitted], avoided: Sequence[frozenset[int]]) -> list[_Pod]:
    """The first pods of a run for which the kernel can find places together."""
    pods: list[_Pod] = []
    until_snapshot = fleet.mix.until_snapshot
    for single, avoid in zip(run[:MOST], avoided, strict=False):
        plan = single.plans[0]
        # Pods that want something of others, or others of them.
        if avoid or plan.terms or plan.demand.rules is not None or fleet.neighbours.wanted or not until_snapshot:
            break
        try:
            profile = fleet.profiles.get(plan.demand)
            if not profile.in_kernel():
                break
        except Exception:  # noqa: BLE001 - it is the answer where this one is placed by itself
            break
        pods.append(_Pod(single, profile, plan.facts(single.workload)))
        until_snapshot -= plan.gpus is not None
    return pods


def _place_by_kernel(fleet: Fleet, pods: Sequence[_Pod]) -> list[Place | Exception]:
    """The places of the first ones, as far as there are any."""
    places: list[Place | Exception] = []
    taken = take_places(fleet.table, fleet.mix, [pod.profile for pod in pods])
    for number, ((single, profile, facts), (row, devices, compared)) in enumerate(zip(pods, taken, strict=False), 1):
        choice = choice_of(fleet, row, compared, None, None)
        place = Place(fleet.slots.taken(row, profile.request, devices, facts), choice)
        fleet.mix.replace((), single.plans)
        places.append(place)
        if number < len(taken) and _is_known(fleet, single, place):
            for later, (other, held, _) in zip(pods[number:], taken[number:], strict=False):
                fleet.table.lift(other, later.profile.request, held)
            break
    return places


def _place_one(fleet: Fleet, single: Admitted, avoid: frozenset[int]) -> list[Place | Exception]:
    """The same for one pod, whatever it asks for."""
    plan = single.plans[0]
    try:
        facts = plan.facts(single.workload)
        profile = fleet.profile_for(plan.demand, facts)
        row = profile.best(None, avoid)
        if row is None:
            return []
        choice = choice_of(fleet, row, profile.compare(row, None, avoid), None, None)
        hold = fleet.slots.hold(fleet.slots.by_row(row), profile.request, None, facts)
    except Exception as error:  # noqa: BLE001 - the answer to this one
        return [error]
    fleet.mix.replace((), single.plans)
    return [Place(hold, choice)]


def _is_known(fleet: Fleet, single: Admitted, place: Place | Exception) -> bool:
    """Whether pods of it are there already: how much room it holds is seen when it is folded, and not before."""
    if isinstance(place, Exception):
        return False
    return fleet.pods.find_share(ShareKey(single.key, single.plans[0].name, place.hold.slot.cluster)) is not None


def conclude_single(single: Admitted, place: Place, uid: str) -> tuple[WorkloadPlaced, Hold]:
    """The decision, and the room that it says is held."""
    _, workload, (plan,), ref, importance, _ = single
    slot = place.hold.slot
    ordinals = (0,) if plan.division is Division.NODES else ()
    share = {"cluster": slot.cluster, "replicas": 1, "nodes": (slot.name,), "ordinals": ordinals}
    outcome = PodSetPlacement.model_validate(
        {"name": plan.name, "desired": 1, "shares": (share,), "why": {"choices": (place.choice,)}}
    )
    placed = WorkloadPlaced(
        workload=workload,
        uid=uid,
        workload_generation=1,
        request=ref,
        pod_sets=(outcome,),
        priority=importance.priority,
        preempts=importance.preempts,
    )
    return placed, place.hold
