"""Gangs: replicas that start together or not at all.

Either so many as a gang needs find room in one decision, or none takes any: it waits, and holds nothing, so that no two
gangs each keep half of what the other lacks. More of them, later, is the same for the difference. A decision states the
whole outcome of its workload, and is one record of the journal: nobody ever sees a part of a gang.

What runs is not held up by being a gang: `started` replicas found their place together, and those that are lost of them
are replaced one by one. A gang that lost all starts anew. What a user changes so that replicas cannot stay where they
are starts anew as well: it is whole with what is asked now, or gives up what it has.

Pod sets that start `with_others` do what has to be done together only if all of them can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import GangPlan, PodSetPlan
from services.scheduler.decision.placing.purse import OVER_BUDGET
from services.scheduler.decision.placing.replicas import PLACING, Budget, Mark
from services.scheduler.decision.scoring.unfit import UNSCHEDULABLE
from services.scheduler.decision.seen.fleet import Fleet
from shared.events.v1.decisions import PodSetPlacement

if TYPE_CHECKING:
    from services.scheduler.decision.placing.drafts import PodSetDraft

GANG = "GangDoesNotFit"


class GangDraft:
    """`started`: see the module. `before` is how the draft was when replicas began to be placed together."""

    __slots__ = ("before", "plan", "restarts", "started")

    def __init__(self, plan: GangPlan, previous: PodSetPlacement | None) -> None:
        self.plan = plan
        self.started = (previous.started or 0) if previous is not None else 0
        self.restarts = False
        self.before: tuple[Mark, int] | None = None

    def has_rest_later(self, draft: PodSetDraft) -> bool:
        """Whether what is missing has its turn when the other pod sets have theirs; see `settle_gangs`."""
        return self.plan.with_others and len(draft.replicas) >= self.plan.needed(draft.plan.desired)


def settle_gang(draft: PodSetDraft, gang: GangDraft, budget: Budget) -> None:
    """Places what is missing: what was lost one by one, then together what is needed, then the rest one by one."""
    needed = gang.plan.needed(draft.plan.desired)
    gang.started = min(gang.started, needed) if draft.replicas and not gang.restarts else 0
    if (lost := gang.started - len(draft.replicas)) > 0:
        draft._place(budget, most=min(lost, draft.placeable))
        if len(draft.replicas) < gang.started:
            return
    if len(draft.replicas) < needed:
        if budget.closed:
            draft.wait_for(PLACING, "it is about to be placed")
            return
        gang.before = draft.mark(), gang.started
        if not _place_at_once(draft, needed - len(draft.replicas), budget):
            if gang.restarts:
                _give_up_all(draft, gang)
            return
    gang.started = needed
    if draft.missing and not gang.plan.with_others:
        draft._place(budget)


def settle_gangs(drafts: Sequence[PodSetDraft], budget: Budget) -> None:
    """Where one of the pod sets that start together cannot, the others do not either. What is more than these need
    has its turn when all of them have a place.
    """
    gangs = [(draft, draft.gang) for draft in drafts if draft.gang is not None and draft.gang.plan.with_others]
    short = [(draft, gang) for draft, gang in gangs if len(draft.replicas) < gang.plan.needed(draft.plan.desired)]
    if not short:
        for draft, _ in gangs:
            if draft.missing:
                draft.place_rest(budget)
        return
    names = ", ".join(draft.plan.name for draft, _ in short)
    anew = any(gang.restarts for _, gang in short)
    for draft, gang in gangs:
        held_up = gang.before is not None and (draft, gang) not in short
        if gang.before is not None:
            mark, gang.started = gang.before
            draft.take_back(mark)
        if anew:
            _give_up_all(draft, gang)
        elif gang.before is None and (draft, gang) not in short:
            # It runs: what is more than it needs is not held up.
            draft.place_rest(budget)
        if draft.missing and (held_up or not draft.waits):
            draft.wait_for(GANG, f"it starts together with what finds no room: {names}")


def is_hopeless(fleet: Fleet, plan: PodSetPlan, placement: PodSetPlacement) -> bool:
    """Whether what was tried and has to start together has no room for sure: there is none for so many."""
    if plan.gang is None or placement.reason == PLACING or placement.placed < (placement.started or 0):
        return False
    rest = plan.gang.needed(plan.desired) - placement.placed
    return rest > 0 and fleet.profile_for(plan.demand).room_in_all() < rest


def _place_at_once(draft: PodSetDraft, rest: int, budget: Budget) -> bool:
    """Places all of them or none. No budget stops it halfway: it counts for what is tried afterwards."""
    if draft.placeable < rest:
        draft.wait_for(*draft.limited())
        return False
    own = Budget(rest + len(list(draft._fleet.clusters)))
    mark, before = draft.mark(), own.left
    found = draft._profile.room_in_all(draft._avoid)
    if found >= rest:
        draft._place(own, most=rest)
        found = len(draft.replicas) - mark.replicas
    if found >= rest:
        budget.left -= before - own.left
        return True
    budget.vain += max(before - own.left + own.vain, 1)
    draft.take_back(mark)
    draft.wait_for(*_why(draft, rest, found))
    return False


def _why(draft: PodSetDraft, rest: int, found: int) -> tuple[str, str]:
    """A reason of its own where there is room for some; else that of the first."""
    together = draft.plan.division is Division.TOGETHER
    if together:
        found = min(max((draft._room_in(index) for index in _open_to(draft)), default=0), rest - 1)
    reason, message = (draft._reason, draft._message) if draft.waits else draft._explain()
    if reason == OVER_BUDGET:
        return reason, f"{rest} replicas are needed at once: beside {found} of them {message}"
    if not found:
        return GANG if reason == UNSCHEDULABLE else reason, message
    where = " in one cluster" if together else ""
    return GANG, f"room for {rest} replicas is needed at once{where}, and there is room for {found}"


def _open_to(draft: PodSetDraft) -> list[int]:
    clusters = draft._fleet.clusters
    return [item.index for item in clusters if item.index not in draft._avoid and draft._profile.accepts(item)]


def _give_up_all(draft: PodSetDraft, gang: GangDraft) -> None:
    draft.replicas, draft.leaving, gang.started = [], [], 0
