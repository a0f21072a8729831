"""The usual case, by the shortest way: workloads that are new, of one pod each, which have a place.

What comes out is what `PodSetDraft` makes of each, one after the other; it keeps, gives up and divides replicas, and
nothing of that is to be done here. Several that come in a row are decided step by step for all of them together, not
one by one: a step done again at once finds its code and data in the processor's caches, which is most of what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.asked.priorities import Importance
from services.scheduler.decision.placing.explanations import choice_of, refusals_of
from services.scheduler.decision.scoring.kernel import MOST
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.scoring.runs import take_places
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.slots import Hold
from services.scheduler.decision.table.neighbours import PodFacts
from shared.events.v1.decisions import (
    Choice,
    ClusterShare,
    PodSetPlacement,
    PodSetReasons,
    RequestRef,
    WorkloadPlaced,
)
from shared.events.v1.workloads import Workload
from shared.model.built import built

Json = dict[str, Any]
_ORDINALS = (0,)
_ALONE = ("cluster", "node", "cost", "terms")
_BESIDE = ("runner_up_cluster", "runner_up", "runner_up_cost")
_choice_alone, _choice = built(Choice, _ALONE), built(Choice, (*_ALONE, *_BESIDE))
_reasons = built(PodSetReasons, ("choices",))
_share = built(ClusterShare, ("cluster", "replicas", "nodes", "ordinals"))
_outcome = built(PodSetPlacement, ("name", "desired", "shares", "why"))
_waiting = built(PodSetPlacement, ("name", "desired", "shares", "reason", "message", "why"))
_reasons_to_wait = built(PodSetReasons, ("choices", "refusals", "left_out"))
_decision = built(
    WorkloadPlaced, ("workload", "uid", "workload_generation", "request", "pod_sets", "priority", "preempts")
)


class Admitted(NamedTuple):
    """A request that can be decided upon. `single`: it is a new workload of one pod, so that what is here will do."""

    key: str
    workload: Workload
    plans: tuple[PodSetPlan, ...]
    ref: RequestRef
    importance: Importance
    single: bool


class Place(NamedTuple):
    """The share that a pod is, the room that it has, and the choice as it stands in the decision.

    `known`: pods of the share are there already; how much room it needs is seen when it is folded, and not before.
    """

    share: ShareKey
    hold: Hold
    choice: Json
    known: bool


_Pod = tuple[Admitted, Profile, PodFacts | None]


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
        last = places[-1] if places else None
        if isinstance(last, Place) and last.known:
            return places, False
        if len(places) - before < max(len(pods), 1):
            return places, True
    return places, False


def _for_kernel(fleet: Fleet, run: Sequence[Admitted], avoided: Sequence[frozenset[int]]) -> list[_Pod]:
    """The first pods of a run for which the kernel can find places together.

    These want nothing of others, and nobody who runs wants anything of them: where one goes makes no difference to the
    next but for the room that it takes.
    """
    pods: list[_Pod] = []
    neighbours, find, version = fleet.neighbours, fleet.profile_for, fleet.profiles.facts_version
    until_snapshot = fleet.mix.until_snapshot
    # Of pods that are alike, as long as nobody asks where others are.
    known: dict[int, Profile] = {}
    for single, avoid in zip(run[:MOST], avoided, strict=False):
        plan = single.plans[0]
        if avoid or plan.terms or plan.demand.rules is not None or not until_snapshot:
            break
        try:
            facts = plan.facts(single.workload)
            profile = known.get(id(plan))
            if profile is None:
                if facts is not None and pods and neighbours.wanted and not neighbours.active:
                    # All that is there is counted first, and then looked at anew.
                    break
                profile = find(plan.demand, facts)
                if not profile.in_kernel(version):
                    break
                if not neighbours.wanted:
                    known[id(plan)] = profile
        except Exception:  # noqa: BLE001 - it is the answer where this one is placed by itself
            break
        pods.append((single, profile, facts))
        if plan.gpus is not None:
            until_snapshot -= 1
    return pods


def _place_by_kernel(fleet: Fleet, pods: Sequence[_Pod]) -> list[Place | Exception]:
    """The places of the first ones, as far as there are any."""
    places: list[Place | Exception] = []
    rows, devices, told = take_places(fleet.table, fleet.mix, [profile for _, profile, _ in pods])
    by_row, find_share, take = fleet.slots.by_row, fleet.pods.find_share, fleet.slots.taken
    for (single, profile, facts), (row, other), held, said in zip(pods, rows, devices, told, strict=False):
        slot, request = by_row(row), profile.request
        cost, beside, order, order_beside, more = said[8:13]
        second = other if other >= 0 else row
        terms = profile.kernel_terms(row, second, said, order, order_beside, facts=more != 0)
        choice = {"cluster": slot.cluster, "node": slot.name, "cost": cost, "terms": terms}
        if other >= 0:
            runner_up = by_row(other)
            choice["runner_up_cluster"], choice["runner_up"] = runner_up.cluster, runner_up.name
            choice["runner_up_cost"] = beside
        share = ShareKey(single.key, single.plans[0].name, slot.cluster)
        hold = take(slot, request, tuple(held[: request.devices]) if request.devices else (), facts)
        known = find_share(share) is not None
        places.append(Place(share, hold, choice, known))
        if known:
            _give_back(fleet, pods[len(places) :], rows[len(places) :], devices[len(places) :])
            break
    fleet.mix.add([single.plans[0] for single, _, _ in pods[: len(places)]])
    return places


def _give_back(
    fleet: Fleet, pods: Sequence[_Pod], rows: Sequence[Sequence[int]], devices: Sequence[Sequence[int]]
) -> None:
    """The places of these pods were chosen too early."""
    for (_, profile, _), (row, _), held in zip(pods, rows, devices, strict=False):
        fleet.table.lift(row, profile.request, tuple(held[: profile.request.devices]))


def _place_one(fleet: Fleet, single: Admitted, avoid: frozenset[int]) -> list[Place | Exception]:
    """The same for one pod, whatever it asks for."""
    plan = single.plans[0]
    try:
        facts = plan.facts(single.workload)
        profile = fleet.profile_for(plan.demand, facts)
        if profile.stuck_at == profile.version:
            return []
        chosen = profile.choose(avoid)
        if chosen is None:
            return []
        row, compared = chosen
        choice = choice_of(fleet, row, compared, None, None)
        slot = fleet.slots.by_row(row)
        hold = fleet.slots.hold(slot, profile.request, None, facts)
    except Exception as error:  # noqa: BLE001 - the answer to this one
        return [error]
    fleet.mix.add((plan,))
    share = ShareKey(single.key, plan.name, slot.cluster)
    return [Place(share, hold, choice, fleet.pods.find_share(share) is not None)]


def conclude_single(single: Admitted, place: Place, uid: str) -> WorkloadPlaced:
    """The decision."""
    plan, slot, choice = single.plans[0], place.hold.slot, place.choice
    made = _choice(choice) if "runner_up" in choice else _choice_alone(choice)
    ordinals = _ORDINALS if plan.division is Division.NODES else ()
    share = _share({"cluster": slot.cluster, "replicas": 1, "nodes": slot.names, "ordinals": ordinals})
    outcome = _outcome(
        {"name": plan.name, "desired": 1, "shares": (share,), "why": _reasons({"choices": (made,)}), "away": {}}
    )
    return _decision_on(single, outcome, uid)


def conclude_stuck(fleet: Fleet, single: Admitted, uid: str) -> WorkloadPlaced | None:
    """The decision where no cluster is avoided and no node passes; None where it takes more to say why."""
    plan = single.plans[0]
    profile = fleet.profile_for(plan.demand, plan.facts(single.workload))
    reason, message = profile.explain()
    if profile.broken:
        return None
    if profile.in_kernel(fleet.profiles.facts_version):
        profile.stuck_at = profile.version
    refusals, left_out = refusals_of(fleet, profile)
    why = _reasons_to_wait({"choices": (), "refusals": refusals, "left_out": left_out})
    outcome = {"name": plan.name, "desired": 1, "shares": (), "reason": reason, "message": message, "why": why}
    return _decision_on(single, _waiting({**outcome, "away": {}}), uid)


def _decision_on(single: Admitted, outcome: PodSetPlacement, uid: str) -> WorkloadPlaced:
    return _decision(
        {
            "workload": single.workload,
            "uid": uid,
            "workload_generation": 1,
            "request": single.ref,
            "pod_sets": (outcome,),
            "priority": single.importance.priority,
            "preempts": single.importance.preempts,
        }
    )
