"""What waits takes the room of what is less important: which workloads try, when, and the decisions that follow.

Only after nothing cheaper worked: everything that waits was tried on the room that there is. Then the more important
goes first, and of equals the older, however large. Equal priorities never take each other's room, so what made room
does not get it back by force, and no chain of preemptions is longer than there are priorities.

Decided at once, in this order: each workload that makes room has fewer replicas, which wait at their place by priority
and age; and the replica that takes the room is placed. So its room is held from then on, on a node that is charged for
both until the pods that make room are gone. Nobody else finds room there meanwhile, and no pod is bound before there is
room for it (docs/adr/0012).

With queues, priorities count within each. A queue whose replica stays within its guarantee takes back what others
borrowed (`lending`), before it takes anything of its own. The next to try is of the queue whose turn it is; once room
was made everything that waits has its turn first, since what is left over of that is everybody's.

Nothing of this is known to the leader alone, but when a try in vain is worth another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import groupby, islice
from typing import NamedTuple

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.turns import Rank, size_of_turn
from services.scheduler.decision.decided.waiting import Entry, WaitingQueue
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.placing.drafts import PodSetDraft, settle_followers
from services.scheduler.decision.placing.replicas import Budget
from services.scheduler.decision.preempting.claims import PriorityClaim
from services.scheduler.decision.preempting.lending import Ledger, ReclaimClaim
from services.scheduler.decision.preempting.units import Unit
from services.scheduler.decision.preempting.victims import Found, Victims
from services.scheduler.decision.seen.fleet import Fleet
from shared.events.v1.decisions import Decision, Displacement, PodSetPlacement, WorkloadPlaced

# A try in vain is worth another one after so long, and longer the more it cost and the more others try.
_PAUSE_MS = 1_000
_PAUSE_FOR_ROW_MS = 1
_PAUSE_FOR_OTHER_MS = 10
# Where nothing happened since, it is tried after twice as long each time, up to this: what a disruption budget allows
# may be otherwise, and is seen by trying alone.
_LONGEST_PAUSE_MS = 16_000
_MOST_IN_VAIN = 8
_ALL = 2**31

Drafts = Callable[[WorkloadRecord, int], list[PodSetDraft]]
Conclude = Callable[[WorkloadRecord, tuple[PodSetPlacement, ...], Sequence[PodSetDraft]], WorkloadPlaced]
Begin = Callable[[WorkloadRecord], None]
# For whom a try may be in vain: all of one demand, and queue, or one workload where its own terms decide.
What = tuple[Demand, str] | str
_NO_QUEUE: Rank = (False, 0.0, "")


@dataclass(frozen=True, slots=True)
class _Taken:
    """Room that a replica of a draft took; `queue` is its own where what it is guaranteed decided."""

    draft: PodSetDraft
    found: Found
    queue: str


class _Vain(NamedTuple):
    """A priority was tried in vain: for a while, and for longer where nothing happens meanwhile."""

    rank: int
    state: tuple[int, ...]
    tried_ms: int
    until_ms: int
    patient_ms: int

    @property
    def forgotten_ms(self) -> int:
        """It is remembered for as long again, to know whether the next try is one more of the same."""
        return 2 * self.patient_ms - self.tried_ms


class Preemption:
    """`drafts` are those of a workload as it is, `conclude` makes a decision of outcomes; `begin` is told who is about
    to try. `count` and `victims` count the replicas that took room, and those that made it.
    """

    def __init__(self, fleet: Fleet, workloads: Workloads, drafts: Drafts, conclude: Conclude, begin: Begin) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._drafts = drafts
        self._conclude = conclude
        self._begin = begin
        self._search = Victims(fleet, workloads)
        self._in_vain: dict[What, _Vain] = {}
        self._ledger = Ledger(workloads, workloads.queues) if workloads.queues is not None else None
        self.count = 0
        self.victims = 0
        self._told = (0, 0)

    def take_counts(self) -> tuple[int, int]:
        """What `count` and `victims` have become since this was asked last."""
        counts, self._told = (self.count - self._told[0], self.victims - self._told[1]), (self.count, self.victims)
        return counts

    @property
    def conceivable(self) -> bool:
        """Whether anything waits that is more important than anything that has a place, or is guaranteed to a queue."""
        ranks = self._workloads.ranks
        first = self._workloads.waiting.first_rank if ranks else None
        guaranteed = self._ledger is not None and self._ledger.queues.any_guaranteed
        return first is not None and (guaranteed or first > min(ranks))

    def decide(self, budget: Budget, now_ms: int) -> list[Decision]:
        """To be called when everything that waits was tried in vain."""
        decisions: list[Decision] = []
        self._in_vain = {what: known for what, known in self._in_vain.items() if now_ms < known.forgotten_ms}
        for record, what in self._turns(now_ms):
            if budget.spent:
                break
            looked = self._search.looked
            made = self._preempt(record, budget, now_ms)
            if made is None and decisions:
                # What was made for others has room for it as well: it was not in vain, and its turn is next.
                break
            decisions += made or []
            if made and self._ledger is not None:
                break
            if not made:
                rows, others = self._search.looked - looked, len(self._in_vain)
                pause = _PAUSE_MS + _PAUSE_FOR_ROW_MS * rows + _PAUSE_FOR_OTHER_MS * others
                self._note_vain(what, record.placed.rank, pause, now_ms)
        return decisions

    def _turns(self, now_ms: int) -> Iterator[tuple[WorkloadRecord, What]]:
        """In the order in which they wait; each is decided upon before the next is asked for."""
        ranks, in_vain = self._workloads.ranks, 0
        heap = [(turn, entry, number, line, demand) for number, (turn, line, entry, demand) in enumerate(self._heads())]
        heapify(heap)
        while heap and ranks and in_vain < _MOST_IN_VAIN:
            turn, entry, number, line, demand = heappop(heap)
            if -entry[0] <= min(ranks) and (self._ledger is None or turn[0]):
                continue
            record = self._workloads.live(entry[2])
            stands = True
            if record is not None and record.placed.preempts:
                what = self._what(record, demand, turn[2])
                if not self._is_in_vain(what, record, now_ms):
                    yield record, what
                    in_vain += self._is_in_vain(what, record, now_ms)
                # What one of equal demand and no less priority finds nowhere, those behind it find nowhere either.
                stands = what == record.key or not self._is_in_vain(what, record, now_ms)
            following = line.after(entry, demand) if stands else None
            if following is not None:
                heappush(heap, (turn, following, number, line, demand))

    def _heads(self) -> Iterator[tuple[Rank, WaitingQueue, Entry, Demand]]:
        turns, waiting = self._workloads.turns, self._workloads.waiting
        if turns is not None:
            yield from turns.heads()
            return
        for entry, demand in waiting.heads():
            yield _NO_QUEUE, waiting, entry, demand

    def _what(self, record: WorkloadRecord, demand: Demand, queue: str) -> What:
        mine = [plan for plan in record.plans if plan.demand == demand]
        own = any(plan.sharing is not None or plan.terms or plan.price_limit is not None for plan in mine)
        return record.key if own else (demand, queue)

    def _is_in_vain(self, what: What, record: WorkloadRecord, now_ms: int) -> bool:
        known = self._in_vain.get(what)
        if known is None or record.placed.rank > known.rank:
            return False
        return now_ms < known.until_ms or (now_ms < known.patient_ms and known.state == self._state())

    def _note_vain(self, what: What, rank: int, pause: int, now_ms: int) -> None:
        before, state = self._in_vain.get(what), self._state()
        patience = pause
        if before is not None and before.state == state:
            patience = max(pause, min(2 * (before.patient_ms - before.tried_ms), _LONGEST_PAUSE_MS))
        self._in_vain[what] = _Vain(rank, state, now_ms, now_ms + pause, now_ms + patience)

    def _state(self) -> tuple[int, ...]:
        """Changes when there is room that was none, when a budget of a cluster allows more, when anything was asked."""
        fleet = self._fleet
        return fleet.table.freed, fleet.clusters.version, fleet.budgets.loosened, self._workloads.asked

    # --- one workload ---

    def _preempt(self, record: WorkloadRecord, budget: Budget, now_ms: int) -> list[Decision] | None:
        """None where it has room without that of others."""
        self._begin(record)
        drafts = self._drafts(record, now_ms)
        taken: list[_Taken] = []
        most = self._most(record)
        for draft in drafts:
            draft.settle(budget)
            taken += islice(self._take_room(record, draft, budget), most - len(taken))
        taken = self._spare(taken)
        budget.end_try()
        self._search.end()
        if self._ledger is not None:
            self._ledger.begin()
        if not taken:
            lacking = any(draft.missing for draft in drafts if not draft.plan.follows)
            for draft in drafts:
                draft.discard()
            return [] if lacking else None
        settle_followers(drafts)
        decisions: list[Decision] = []
        victims = [(unit, self._told_to(record, item, unit)) for item in taken for unit in item.found.units]
        victims.sort(key=lambda item: item[0].share.key)
        for key, group in groupby(victims, key=lambda item: item[0].share.key.workload):
            victim = self._workloads.live(key)
            assert victim is not None
            decisions.append(self._displace(victim, list(group), now_ms))
        self.count += len(taken)
        self.victims += sum(unit.replicas for unit, _ in victims)
        return [*decisions, self._conclude(record, tuple(draft.outcome() for draft in drafts), drafts)]

    def _most(self, record: WorkloadRecord) -> int:
        """How many replicas of a workload take room before others have their turn."""
        turns = self._workloads.turns
        return size_of_turn(record) if turns is not None and turns.contended else _ALL

    def _take_room(self, record: WorkloadRecord, draft: PodSetDraft, budget: Budget) -> Iterator[_Taken]:
        made = False
        while draft.finds_no_node and not budget.spent:
            budget.left -= 1
            found, queue = self._find(record, draft)
            if found is None or (made and not found.units):
                # With queues what is left of the room that was made is everybody's.
                return
            made = self._ledger is not None
            self._search.take(found)
            draft.take(found.row, [self._told_by(unit, queue) for unit in found.units])
            if self._ledger is not None:
                self._ledger.take(record, draft.plan.demand, found.units)
            # What is left of the room that was made costs nobody anything more.
            while self._ledger is None and draft.missing and draft.place_one(budget):
                pass
            draft.conclude(budget)
            yield _Taken(draft, found, queue)

    def _spare(self, taken: list[_Taken]) -> list[_Taken]:
        """Replicas came one after the other, and what made room for a later one may do for all: whoever could have
        stayed beside all of them stays, the most important first. Not with queues: who may be taken from depends on
        what all others have.
        """
        units = [unit for item in taken for unit in item.found.units]
        if self._ledger is not None or self._fleet.neighbours.wanted:
            return taken
        rules = any(item.draft.plan.terms or item.draft.plan.demand.rules is not None for item in taken)
        if rules or len(taken) < 2 or len(units) < 2:  # noqa: PLR2004 - none came before another
            return taken
        spared = {unit for unit in sorted(units, key=lambda unit: unit.importance) if self._search.spare(unit)}
        for item in taken:
            for unit in spared.intersection(item.found.units):
                item.draft.spare(self._told_by(unit, item.queue))
        return [replace(item, found=item.found.without(spared)) for item in taken]

    def _find(self, record: WorkloadRecord, draft: PodSetDraft) -> tuple[Found | None, str]:
        """Where the next replica has room, and its queue if that takes back what it is guaranteed."""
        if self._ledger is None:
            return self._search.find(PriorityClaim(record.placed.rank), draft), ""
        for claim in self._ledger.claims(record, draft.plan.demand):
            if (found := self._search.find(claim, draft)) is not None:
                reclaims = isinstance(claim, ReclaimClaim)
                return found, self._ledger.queues.of(record.placed.workload) if reclaims else ""
        return None, ""

    def _told_by(self, unit: Unit, queue: str) -> Displacement:
        """For the one that takes the room: who made it."""
        key, record = unit.share.key, self._workloads.live(unit.share.key.workload)
        rank = record.placed.rank if record is not None else unit.rank
        return _displacement(unit, key.workload, key.pod_set, rank, queue)

    def _told_to(self, record: WorkloadRecord, taken: _Taken, unit: Unit) -> Displacement:
        """For the one that makes room: for whom."""
        return _displacement(unit, record.key, taken.draft.plan.name, record.placed.rank, taken.queue)

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


def _displacement(unit: Unit, workload: str, pod_set: str, rank: int, queue: str) -> Displacement:
    node = unit.holds[0].slot.name if len(unit.holds) == 1 else ""
    return Displacement(
        workload=workload,
        pod_set=pod_set,
        priority=rank,
        cluster=unit.share.key.cluster,
        node=node,
        replicas=unit.replicas,
        queue=queue,
    )
