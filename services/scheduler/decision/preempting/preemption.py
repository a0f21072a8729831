"""What waits takes the room of what is less important: which workloads try, when, and the decisions that follow.

Only after nothing cheaper worked: everything that waits was tried on the room that there is. Then the more important
goes first, and of equals the older, as in `waiting`. Equal priorities never take each other's room, so what made room
does not get it back by force, and no chain of preemptions is longer than there are priorities.

Decided at once, in this order: each workload that makes room has fewer replicas, which wait at their place by priority
and age; and the replica that takes the room is placed. So its room is held from then on, on a node that is charged for
both until the pods that make room are gone. Nobody else finds room there meanwhile, and no pod is bound before there is
room for it (docs/adr/0012).

Nothing of this is known to the leader alone, but when a try in vain is worth another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import groupby

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.placing.drafts import PodSetDraft, settle_followers
from services.scheduler.decision.placing.replicas import Budget
from services.scheduler.decision.preempting.claims import PriorityClaim
from services.scheduler.decision.preempting.units import Unit
from services.scheduler.decision.preempting.victims import Found, Victims
from services.scheduler.decision.seen.fleet import Fleet
from shared.events.v1.decisions import Decision, Displacement, PodSetPlacement, WorkloadPlaced

# A try in vain is worth another one after so long, and longer the more it cost and the more others try.
_PAUSE_MS = 1_000
_PAUSE_FOR_ROW_MS = 1
_PAUSE_FOR_OTHER_MS = 10
_MOST_IN_VAIN = 8

Drafts = Callable[[WorkloadRecord, int], list[PodSetDraft]]
Conclude = Callable[[WorkloadRecord, tuple[PodSetPlacement, ...], Sequence[PodSetDraft]], WorkloadPlaced]


class Preemption:
    """`drafts` are those of a workload as it is, `conclude` makes a decision of outcomes. `count` and `victims` count
    the replicas that took room, and those that made it.
    """

    def __init__(self, fleet: Fleet, workloads: Workloads, drafts: Drafts, conclude: Conclude) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._drafts = drafts
        self._conclude = conclude
        self._search = Victims(fleet, workloads)
        # Until when, for a demand (or a workload, where its own terms decide), a priority is tried in vain.
        self._in_vain: dict[Demand | str, tuple[int, int]] = {}
        self.count = 0
        self.victims = 0
        self._told = (0, 0)

    def take_counts(self) -> tuple[int, int]:
        """What `count` and `victims` have become since this was asked last."""
        counts, self._told = (self.count - self._told[0], self.victims - self._told[1]), (self.count, self.victims)
        return counts

    @property
    def conceivable(self) -> bool:
        """Whether anything waits that is more important than anything that has a place."""
        ranks = self._workloads.ranks
        first = self._workloads.waiting.first_rank if ranks else None
        return first is not None and first > min(ranks)

    def decide(self, budget: Budget, now_ms: int) -> list[Decision]:
        """To be called when everything that waits was tried in vain."""
        decisions: list[Decision] = []
        self._in_vain = {what: known for what, known in self._in_vain.items() if known[1] > now_ms}
        for record, demand in self._turns(now_ms):
            if budget.spent:
                break
            made = self._preempt(record, budget, now_ms)
            decisions += made
            if not made:
                pause = _PAUSE_MS + _PAUSE_FOR_ROW_MS * self._search.looked + _PAUSE_FOR_OTHER_MS * len(self._in_vain)
                self._in_vain[self._what(record, demand)] = record.placed.rank, now_ms + pause
        return decisions

    def _turns(self, now_ms: int) -> Iterator[tuple[WorkloadRecord, Demand]]:
        """In the order of the queue; each is decided upon before the next is asked for."""
        waiting, ranks, in_vain = self._workloads.waiting, self._workloads.ranks, 0
        heap = [(entry, number, demand) for number, (entry, demand) in enumerate(waiting.heads())]
        heapify(heap)
        while heap and ranks and in_vain < _MOST_IN_VAIN:
            entry, number, demand = heappop(heap)
            if -entry[0] <= min(ranks):
                return
            record = self._workloads.live(entry[2])
            stands = True
            if record is not None and record.placed.preempts:
                what = self._what(record, demand)
                if not self._is_in_vain(what, record, now_ms):
                    yield record, demand
                    in_vain += self._is_in_vain(what, record, now_ms)
                # What one of equal demand and no less priority finds nowhere, those behind it find nowhere either.
                stands = what != demand or not self._is_in_vain(what, record, now_ms)
            following = waiting.after(entry, demand) if stands else None
            if following is not None:
                heappush(heap, (following, number, demand))

    def _what(self, record: WorkloadRecord, demand: Demand) -> Demand | str:
        own = any(plan.demand == demand and (plan.sharing is not None or plan.terms) for plan in record.plans)
        return record.key if own else demand

    def _is_in_vain(self, what: Demand | str, record: WorkloadRecord, now_ms: int) -> bool:
        rank, until = self._in_vain.get(what, (0, 0))
        return now_ms < until and record.placed.rank <= rank

    # --- one workload ---

    def _preempt(self, record: WorkloadRecord, budget: Budget, now_ms: int) -> list[Decision]:
        drafts = self._drafts(record, now_ms)
        taken: list[tuple[PodSetDraft, Found]] = []
        for draft in drafts:
            draft.settle(budget)
            taken += ((draft, found) for found in self._take_room(record, draft, budget))
        self._search.end()
        if not taken:
            for draft in drafts:
                draft.discard()
            return []
        settle_followers(drafts)
        decisions: list[Decision] = []
        victims = [(unit, self._told_to(record, draft, unit)) for draft, found in taken for unit in found.units]
        victims.sort(key=lambda item: item[0].share.key)
        for key, group in groupby(victims, key=lambda item: item[0].share.key.workload):
            victim = self._workloads.live(key)
            assert victim is not None
            decisions.append(self._displace(victim, list(group), now_ms))
        self.count += len(taken)
        self.victims += sum(unit.replicas for unit, _ in victims)
        return [*decisions, self._conclude(record, tuple(draft.outcome() for draft in drafts), drafts)]

    def _take_room(self, record: WorkloadRecord, draft: PodSetDraft, budget: Budget) -> Iterator[Found]:
        claim = PriorityClaim(record.placed.rank)
        while draft.finds_no_node and not budget.spent:
            budget.left -= 1
            found = self._search.find(claim, draft)
            if found is None:
                return
            self._search.take(found)
            draft.take(found.row, [self._told_by(unit) for unit in found.units])
            # What is left of the room that was made costs nobody anything more.
            while draft.missing and draft.place_one(budget):
                pass
            draft.conclude(budget)
            yield found

    def _told_by(self, unit: Unit) -> Displacement:
        """For the one that takes the room: who made it."""
        key, record = unit.share.key, self._workloads.live(unit.share.key.workload)
        rank = record.placed.rank if record is not None else unit.rank
        return _displacement(unit, key.workload, key.pod_set, rank)

    def _told_to(self, record: WorkloadRecord, draft: PodSetDraft, unit: Unit) -> Displacement:
        """For the one that makes room: for whom."""
        return _displacement(unit, record.key, draft.plan.name, record.placed.rank)

    def _displace(self, record: WorkloadRecord, gone: list[tuple[Unit, Displacement]], now_ms: int) -> Decision:
        """The workload without the replicas that made room; its other pod sets stay as they are."""
        drafts = self._drafts(record, now_ms)
        changed = {unit.share.key.pod_set for unit, _ in gone}
        for draft in drafts:
            for unit, to in gone:
                if unit.share.key.pod_set == draft.plan.name:
                    draft.give_way(unit.share.key.cluster, unit.positions, to)
        settle_followers(drafts)
        outcomes = []
        for draft, former in zip(drafts, record.placed.pod_sets, strict=True):
            anew = draft.plan.follows or draft.plan.name in changed
            outcomes.append(draft.outcome() if anew else former)
        return self._conclude(record, tuple(outcomes), drafts)


def _displacement(unit: Unit, workload: str, pod_set: str, rank: int) -> Displacement:
    node = unit.holds[0].slot.name if len(unit.holds) == 1 else ""
    return Displacement(
        workload=workload,
        pod_set=pod_set,
        priority=rank,
        cluster=unit.share.key.cluster,
        node=node,
        replicas=unit.replicas,
    )
