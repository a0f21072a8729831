"""What becomes of one workload: drafts of its pod sets, settled anew, and the decision that states what came of it.

Everything by which places are given to a workload that is there comes through here, whatever was the occasion: its
clusters are left, its replicas lost their nodes, others made room, or it is better off elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.scheduler.decision.asked.manifests import Division, grace_ms
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.leaving.evacuation import Evacuation
from services.scheduler.decision.leaving.exodus import Exodus
from services.scheduler.decision.placing.allowance import QUEUE_LIMIT, Allowance
from services.scheduler.decision.placing.confinement import Confinement
from services.scheduler.decision.placing.drafts import PodSetDraft, settle_followers
from services.scheduler.decision.placing.gangs import is_hopeless, settle_gangs
from services.scheduler.decision.placing.purse import OVER_BUDGET, Purse, purse_of
from services.scheduler.decision.placing.replicas import Budget, Replica
from services.scheduler.decision.preempting.reserving import Reserve
from services.scheduler.decision.rebalancing.rebalancing import Rebalancing
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.moves import Moves
from services.scheduler.decision.seen.reservations import ShareKey
from shared.events.v1.decisions import (
    Decision,
    PodSetPlacement,
    WorkloadForgotten,
    WorkloadPlaced,
)
from shared.events.v1.workloads import Workload

_NOWHERE: frozenset[int] = frozenset()


class Settling:
    """`reserve` keeps room for a gang.

    Of each workload `confirmed` has the clusters that confirmed a withdrawal which is not decided upon yet. `unseen`
    are workloads whose last decision is made anew, and will be seen by nobody as it is: a turn among queues follows.
    """

    def __init__(self, fleet: Fleet, workloads: Workloads, moves: Moves, exodus: Exodus) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._moves = moves
        self._exodus = exodus
        self.reserve = Reserve(fleet, workloads, self.drafts_of)
        self.confirmed: dict[str, set[str]] = {}
        self.unseen: dict[str, Decision] = {}

    def fold(
        self, key: str, placed: WorkloadPlaced, plans: tuple[PodSetPlan, ...], drafts: Iterable[PodSetDraft] = ()
    ) -> None:
        ready = {draft.plan.name: draft.ready_holds for draft in drafts}
        self._workloads.fold(key, placed, plans, ready, instead=key in self.unseen)

    def forget(self, record: WorkloadRecord) -> None:
        self._workloads.forget(record)
        self.confirmed.pop(record.key, None)
        self._moves.forget(record.key)

    def end(self, record: WorkloadRecord, retired: tuple[str, ...] = ()) -> list[Decision]:
        """A deleted workload that no cluster of the fleet has any more is forgotten. Those in `retired` have confirmed
        it, and nothing was decided upon that yet.
        """
        placed = record.placed
        if not placed.deleting:
            return []
        left = tuple(name for name in placed.withdrawn if name not in retired)
        if not self._fleet.clusters.gone.issuperset(left):
            return []
        forgotten = WorkloadForgotten(key=record.key, uid=placed.uid, unconfirmed=left, retired=retired)
        self.forget(record)
        return [forgotten]

    def conclude(
        self, record: WorkloadRecord, outcomes: tuple[PodSetPlacement, ...], drafts: Sequence[PodSetDraft]
    ) -> WorkloadPlaced:
        """Decides a workload anew as it was accepted."""
        present = {share.cluster for item in outcomes for share in item.shares}
        withdrawn = tuple(sorted((record.clusters | set(record.placed.withdrawn)) - present))
        placed = record.decided_anew(pod_sets=outcomes, withdrawn=withdrawn)
        self.fold(record.key, placed, record.plans, drafts)
        return placed

    def redecide(
        self,
        key: str,
        budget: Budget,
        now_ms: int,
        moving: dict[ShareKey, int] | None = None,
        mover: Evacuation | Rebalancing | None = None,
    ) -> list[Decision]:
        """Settles a workload anew as it was accepted; decides nothing where nothing comes of it."""
        record = self._workloads.live(key)
        if record is None:
            return []
        drafts = self.drafts_of(record, now_ms)
        confined = drafts[0].confined if drafts else None
        if confined is not None:
            if isinstance(mover, Evacuation):
                self._vacate(record, drafts, confined, mover, now_ms)
            confined.settle(budget)
        for draft in drafts if confined is None else ():
            _move(draft, budget, moving or {})
            if mover is not None:
                mover.settle(key, draft, budget, record.placed.withdrawn)
            draft.settle(budget)
        settle_together(drafts, budget)
        budget.end_try()
        outcomes = tuple(draft.outcome() for draft in drafts)
        if not _differ(outcomes, record.placed.pod_sets):
            for draft in drafts:
                draft.discard()
            return []
        return [self.conclude(record, outcomes, drafts)]

    def _vacate(
        self,
        record: WorkloadRecord,
        drafts: Sequence[PodSetDraft],
        confined: Confinement,
        evacuation: Evacuation,
        now_ms: int,
    ) -> None:
        """Leaves a cluster as a whole, if it has to and another one has room for it, to start there when it is gone."""
        cluster = evacuation.must_vacate(drafts, confined.released)
        if not cluster:
            return
        trial = Confinement(self._fleet, (), confined.released)
        budget = Budget(2 * sum(plan.desired for plan in record.plans) + 2 * len(self._fleet.clusters))
        tried = [self.draft(record.key, record.placed.workload, plan, None, now_ms) for plan in record.plans]
        purse = self.purse(record.key, record.plans, None)
        for draft, own in zip(tried, drafts, strict=True):
            draft.allowance, draft.purse = own.allowance, purse if draft.plan.holds_room else None
            trial.add(draft)
        trial.leave(cluster)
        trial.settle(budget)
        fits = not any(draft.missing for draft in tried if not draft.plan.follows)
        for draft in tried:
            draft.discard()
        if fits:
            evacuation.vacate(drafts)
            confined.leave(cluster)
        evacuation.no_room = evacuation.no_room or not fits

    # --- drafts ---

    def drafts_of(self, record: WorkloadRecord, now_ms: int) -> list[PodSetDraft]:
        """A workload's outcome as it is, but for replicas that lost their place."""
        drafts = []
        allowance = self.allowance(record.key, record.placed.workload, record.plans, record)
        purse = self.purse(record.key, record.plans, record)
        confined = self.confinement(record.placed.workload, record, now_ms)
        for plan in record.plans:
            draft = self.draft(record.key, record.placed.workload, plan, record.placement(plan.name), now_ms)
            if confined is not None:
                confined.add(draft)
            draft.allowance = allowance if plan.holds_room else None
            draft.purse = purse if plan.holds_room else None
            draft.kept_for = self.reserve.head if self.reserve.kept else ""
            if plan.division is Division.NODES:
                draft.drop(lambda replica, draft=draft: self._is_lost(draft, replica))  # type: ignore[misc]
            drafts.append(draft)
        return drafts

    def draft(
        self, key: str, workload: Workload, plan: PodSetPlan, previous: PodSetPlacement | None, now_ms: int
    ) -> PodSetDraft:
        draft = PodSetDraft(self._fleet, key, workload, plan, previous, self.avoided(key, plan, now_ms))
        if gone := self._fleet.clusters.gone:
            draft.drop(lambda replica: replica.cluster in gone)
        return draft

    def withdrawn(self, record: WorkloadRecord | None, drafts: Iterable[PodSetDraft]) -> tuple[str, ...]:
        """The clusters that had a share, or were being left already, and now have none."""
        if record is None:
            return ()
        present = {replica.cluster for draft in drafts for replica in (*draft.replicas, *draft.leaving)}
        return tuple(sorted((record.clusters | set(record.placed.withdrawn)) - present))

    def confinement(self, workload: Workload, record: WorkloadRecord | None, now_ms: int) -> Confinement | None:
        """Where a workload may be that is in one cluster at a time; None for all others."""
        if not workload.placement.at_most_once:
            return None
        commanded = record.placed.commanded if record is not None else frozenset()

        def released(name: str) -> bool:
            return record is not None and self.is_released(name, record.placed, now_ms)

        return Confinement(self._fleet, commanded, released)

    def is_released(self, name: str, placed: WorkloadPlaced, now_ms: int) -> bool:
        """Whether a cluster is known to run nothing of a workload, without having said so."""
        cluster = self._fleet.clusters.get(name)
        if cluster is None or cluster.runs_nothing:
            return cluster is not None
        leased = placed.workload.placement.leased and name not in placed.unleased
        return leased and cluster.lost and self._fleet.leases.is_over(name, now_ms, grace_ms(placed.workload))

    def avoided(self, key: str, plan: PodSetPlan, now_ms: int) -> frozenset[int]:
        """The indexes of clusters where no new replica of a pod set shall go."""
        avoid = _NOWHERE
        if names := self._moves.avoided(key, plan.name, now_ms):
            avoided = (self._fleet.clusters.get(name) for name in names)
            avoid = frozenset(cluster.index for cluster in avoided if cluster is not None)
        if repelling := self._exodus.avoided(plan):
            avoid = avoid.union(repelling)
        return avoid

    def _is_lost(self, draft: PodSetDraft, replica: Replica) -> bool:
        """A bound replica whose pod is gone and whose node, in a cluster that we hear of, takes it no more, or came
        back too small for what is expected there.
        """
        if not self.is_heard(replica.cluster) or not draft.is_unseen(replica):
            return False
        slots = self._fleet.slots
        slot = slots.get(replica.cluster, replica.node)
        return not draft.passes(replica) or (slot is not None and slots.is_overbooked(slot))

    def is_heard(self, name: str) -> bool:
        """Whether what is known of a cluster's nodes and pods can be believed to be so now."""
        cluster = self._fleet.clusters.get(name)
        return cluster is not None and cluster.heard

    # --- limits ---

    def allowance(
        self, key: str, workload: Workload, plans: Iterable[PodSetPlan], record: WorkloadRecord | None
    ) -> Allowance | None:
        queues = self._workloads.queues
        return queues.allowance(key, workload, plans, record) if queues is not None else None

    def purse(
        self, key: str, plans: Sequence[PodSetPlan], record: WorkloadRecord | None, *, beside: bool = False
    ) -> Purse | None:
        """What a workload may cost, and what it has costs; None without a limit. `beside`: as for `purse_of`."""
        if all(plan.price_limit is None for plan in plans):
            return None
        placed = {}
        if record is not None:
            former = {plan.name: plan.division for plan in record.plans}
            kept = {plan.name for plan in plans if former.get(plan.name) is plan.division}
            placed = {item.name: item for item in record.placed.pod_sets if item.name in kept}
        return purse_of(self._fleet, key, plans, placed, beside=beside)

    def is_hopeless(self, key: str) -> bool:
        """Whether nothing comes of another try, for sure: there is no room for so many that have to start together, the
        queue still is at its limit, or the cheapest place still costs more than is left.
        """
        record, queues = self._workloads.live(key), self._workloads.queues
        if record is None:
            return False
        pairs = ((plan, record.placement(plan.name)) for plan in record.plans)
        waiting = [(plan, placement) for plan, placement in pairs if placement is not None and placement.reason]
        queue = queues.of(record.placed.workload) if queues is not None else ""
        return all(
            is_hopeless(self._fleet, plan, placement)
            or (queues is not None and placement.reason == QUEUE_LIMIT and queues.is_full(queue, plan.demand))
            or (placement.reason == OVER_BUDGET and self._is_too_dear(record, plan))
            for plan, placement in waiting
        )

    def _is_too_dear(self, record: WorkloadRecord, plan: PodSetPlan) -> bool:
        purse = self.purse(record.key, record.plans, record)
        lowest = self._fleet.profile_for(plan.demand, plan.facts(record.placed.workload)).lowest_price()
        return purse is not None and lowest is not None and lowest > max(purse.left, 0)


def settle_together(drafts: list[PodSetDraft], budget: Budget) -> None:
    """What one pod set's outcome means for the others."""
    settle_gangs(drafts, budget)
    settle_followers(drafts)


def _move(draft: PodSetDraft, budget: Budget, moving: dict[ShareKey, int]) -> None:
    """So many replicas of a share found no node: each goes elsewhere, if there is room."""
    for share, count in moving.items():
        if share.pod_set == draft.plan.name and draft.plan.division is Division.DIVIDED:
            for _ in range(count):
                draft.move_one(share.cluster, budget)


def _differ(outcomes: tuple[PodSetPlacement, ...], former: tuple[PodSetPlacement, ...]) -> bool:
    """Whether places changed, or why there are none; the counts in a message alone are not worth a decision."""
    if len(outcomes) != len(former):
        return True
    return any(
        (new.shares, new.desired, new.reason) != (old.shares, old.desired, old.reason)
        for new, old in zip(outcomes, former, strict=True)
    )
