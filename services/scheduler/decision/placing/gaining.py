"""Places for the replicas of one pod set: where each costs least, by what its terms, its queue and its money allow.

What is gained takes room on the node table at once, and can be given back (`mark`, `take_back`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import count, filterfalse, repeat

import numpy as np

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.placing.allowance import Allowance
from services.scheduler.decision.placing.confinement import Confinement
from services.scheduler.decision.placing.differing import Differing
from services.scheduler.decision.placing.division import ClusterShares
from services.scheduler.decision.placing.explanations import Reasons
from services.scheduler.decision.placing.gangs import GangDraft
from services.scheduler.decision.placing.purse import Purse, Spending, spent_by
from services.scheduler.decision.placing.replicas import PLACING, Budget, Mark, Replica
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.scoring.spread import Spread
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.slots import NO_ROW, Hold
from services.scheduler.decision.table.arrays import BLOCK, FloatArray
from services.scheduler.decision.table.neighbours import PodFacts
from shared.events.v1.decisions import Displacement, PodSetPlacement, PodSetReasons, Rebalanced
from shared.events.v1.workloads import Workload

SPREAD = "SpreadConstraint"
# The index of a cluster of which nothing is known.
UNKNOWN = -1


class Gaining:
    """`avoid` are indexes of clusters where no new replica shall go. `leaving` are replicas that count no more, and
    stay until those that replace them are ready; see `evacuation`.
    """

    def __init__(
        self,
        fleet: Fleet,
        key: str,
        workload: Workload,
        plan: PodSetPlan,
        previous: PodSetPlacement | None,
        avoid: frozenset[int],
    ) -> None:
        self.plan = plan
        self.replicas: list[Replica] = []
        self.leaving: list[Replica] = []
        self.away: dict[str, int] = {}
        self.returning: tuple[str, ...] = ()
        # The last replica that moved to a better place.
        self.rebalanced: Rebalanced | None = None
        self.ready_holds: dict[str, list[Hold]] = {}
        self.allowance: Allowance | None = None
        # What the workload may cost, if that has a limit.
        self.purse: Purse | None = None
        # Where the last choice found none for its price.
        self._too_dear: Spending | None = None
        # What those cost that are being replaced: as much may be spent in any case.
        self._released = 0
        # Of a workload that is in one cluster at a time: where that is.
        self.confined: Confinement | None = None
        self.gang = GangDraft(plan.gang, previous) if plan.gang is not None else None
        self._fleet = fleet
        self._workload = key
        self._differing = Differing(fleet, plan, previous) if plan.overrides is not None else None
        self._avoid = avoid.union(self._differing.unfit) if self._differing is not None else avoid
        self._avoid_anyway = self._avoid
        self._facts: PodFacts | None = plan.facts(workload)
        self._profile: Profile = fleet.profile_for(plan.demand, self._facts)
        self._reasons = Reasons(fleet, self._profile, self._avoid)
        self._why: PodSetReasons | None = None
        # For whom replicas that wait made room.
        self.preempted: tuple[Displacement, ...] = ()
        # For whom room is kept that is free, but not for this.
        self.kept_for = ""
        self._reason, self._message = "", ""
        # Replicas that should be where they cannot.
        self._refused = 0
        self._rearranging = False
        if previous is not None:
            self._continue(previous)
        if self._differing is not None:
            differing = self._differing
            self.drop(lambda replica: differing.is_impossible(replica.cluster))

    def _continue(self, previous: PodSetPlacement) -> None:
        """From what is there already."""
        self.away = {**previous.away} if self.plan.failback else {}
        self.returning, self._why, self.preempted = previous.returning, previous.why, previous.preempted
        self.rebalanced = previous.rebalanced
        if self.plan.duplicated:
            self._refused = max(0, previous.desired - previous.placed)
        for share in previous.shares:
            for position in range(share.replicas):
                node = share.nodes[position] if share.nodes else ""
                ordinal = share.ordinals[position] if share.ordinals else 0
                replicas = self.replicas if position < share.kept else self.leaving
                replicas.append(Replica(share.cluster, node, ordinal, position))

    @property
    def missing(self) -> int:
        missing = self.plan.desired - len(self.replicas)
        return max(0, missing)

    @property
    def placeable(self) -> int:
        """Of those that are missing, as many as the queue may have."""
        return min(self.missing, self.left_in_queue) if self.allowance is not None else self.missing

    @property
    def left_in_queue(self) -> int:
        """How many more replicas the queue may have."""
        return (
            max(0, self.allowance.most(self.plan) - len(self.replicas)) if self.allowance is not None else self.missing
        )

    @property
    def waits(self) -> bool:
        """Whether it is said why replicas have no place."""
        return bool(self._reason)

    def wait_for(self, reason: str, message: str) -> None:
        self._reason, self._message = reason, message

    # --- gaining ---

    def _place(self, budget: Budget, most: int | None = None) -> None:
        if self.plan.division is Division.TOGETHER:
            self._place_together(budget)
        else:
            self._place_each(budget, most)

    def mark(self) -> Mark:
        """What there is now, for `take_back`."""
        holds = {name: len(made) for name, made in self.ready_holds.items()}
        return Mark(len(self.replicas), holds, self._reasons.noted())

    def take_back(self, mark: Mark) -> None:
        """Gives up what was gained since then, and its room."""
        del self.replicas[mark.replicas :]
        for name, holds in self.ready_holds.items():
            kept = mark.holds.get(name, 0)
            self._fleet.slots.take_back(holds[kept:])
            del holds[kept:]
        self._reasons.forget_since(mark.noted)

    def _place_each(self, budget: Budget, most: int | None = None) -> None:
        if self.plan.duplicated:
            # What is everywhere already has nowhere else to go.
            return
        spread, ordinals = self._spread(), self._free_ordinals()
        shares = self._cluster_shares() if self.plan.sharing is not None else None
        if shares is not None and (problem := shares.shortage(self._avoid)):
            self._reason, self._message = SPREAD, problem
            return
        avoid, spending, mark = self._avoid, None, None
        if self.purse is not None:
            spending, mark = self.spending(self.missing), self.mark()
        for _ in range(self.placeable if most is None else most):
            if budget.left <= 0:
                self._reason, self._message = PLACING, "more replicas are about to be placed"
                return
            costs = spread.costs()
            row = self._choose(spending, costs, avoid, shares)
            if row is None:
                budget.vain += 1
                if mark is not None and shares is not None and shares.needs_group():
                    # There is money for some groups, and not for as many as there have to be.
                    self.take_back(mark)
                return
            budget.left -= 1
            only = spending.rows if spending is not None else None
            self._reasons.note(row, costs, avoid, costs if shares is None else shares.further, only)
            self._gain(row, next(ordinals))
            if spending is not None:
                spending.pay(row)
            spread.add(row)
            if shares is not None:
                shares.count(self._fleet.table.cluster_of(row), 1)

    def spending(self, missing: int) -> Spending | None:
        """For choices from now on, of so many replicas; None where it does not matter what they cost."""
        if self.purse is None:
            return None
        left = max(self.purse.left_beside(self.plan.name, self._spent()), self._released)
        return Spending(self._profile.prices(), self.purse.limit, left, missing)

    def _spent(self) -> int:
        return self._cost_of(self.replicas)

    def _cost_of(self, replicas: Iterable[Replica]) -> int:
        return spent_by(self._fleet, self._profile.prices(), self._workload, self.plan, replicas)

    def _choose(
        self,
        spending: Spending | None,
        costs: FloatArray | None = None,
        avoid: Collection[int] = (),
        shares: ClusterShares | None = None,
    ) -> int | None:
        """The row for the next replica, as `Profile.best` and `ClusterShares.best`, of those that can be paid."""
        profile = self._profile
        if spending is None:
            return profile.best(costs, avoid) if shares is None else shares.best(costs, avoid)
        rows = spending.affordable(profile.passing(costs if shares is None else shares.closed(avoid), avoid))
        self._too_dear = spending if spending.lowest is not None else None
        if rows is None:
            return None
        return profile.best_within(rows, costs, avoid) if shares is None else shares.best(costs, avoid, rows)

    def _place_together(self, budget: Budget) -> None:
        """All in one cluster or none; what is there already decides which cluster."""
        present = {replica.cluster for replica in self.replicas}
        everything = frozenset(cluster.index for cluster in self._fleet.clusters)
        full = set(self._avoid)
        shares = self._cluster_shares()
        if budget.spent:
            self._reason, self._message = PLACING, "it is about to be placed"
            return
        too_dear: Spending | None = None
        while True:
            spending = self.spending(self.missing)
            row = self._choose(spending, None, full, shares)
            if row is None:
                self._too_dear = self._too_dear or too_dear
                return
            index = self._fleet.table.cluster_of(row)
            slot = self._fleet.slots.by_row(row)
            elsewhere = everything - {index}
            if not present or slot.cluster in present:
                only = spending.rows if spending is not None else None
                self._reasons.note(row, None, full, None if shares is None else shares.further, only)
                if self._fill(self.missing, index, elsewhere):
                    budget.left -= self.plan.desired
                    return
                self._reasons.take_back(row)
                too_dear = too_dear or self._too_dear
            budget.vain += 1
            full.add(index)

    def _fill(self, count: int, cluster: int, elsewhere: frozenset[int], others: int = 0) -> bool:
        """Places so many in a cluster, or none; `others` are to be paid as well."""
        if count > 1 and self._room_in(cluster) < count:
            return False
        mark, spending = self.mark(), self.spending(count + others)
        for _ in range(count):
            row = self._choose(spending, None, elsewhere)
            if row is None:
                # Single devices fit fewer pods than their sum: what was placed is taken back.
                self.take_back(mark)
                return False
            self._gain(row, 0)
            if spending is not None:
                spending.pay(row)
        return True

    def _room_in(self, cluster: int) -> int:
        blocks = np.flatnonzero(self._fleet.table.block_cluster == cluster)
        rows = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        return int(self._profile.room(rows).sum())

    def _gain(self, row: int, ordinal: int) -> None:
        slot = self._fleet.slots.by_row(row)
        if not self.plan.holds_room:
            self.replicas.append(Replica(slot.cluster))
            return
        hold = self._fleet.slots.hold(slot, self._profile.request, None, self._facts)
        self.ready_holds.setdefault(slot.cluster, []).append(hold)
        self.replicas.append(Replica(slot.cluster, slot.name, ordinal))

    # --- replicas, and where they are ---

    def drop(self, unfit: Callable[[Replica], bool]) -> None:
        """Gives up the replicas of which this holds."""
        self.replicas = [replica for replica in self.replicas if not unfit(replica)]
        self.leaving = [replica for replica in self.leaving if not unfit(replica)]

    def passes(self, replica: Replica) -> bool:
        """Whether the replica's node is there, and takes such pods whatever runs on it."""
        row = self._row(replica)
        return row != NO_ROW and self._profile.base(row) != np.inf

    def is_unseen(self, replica: Replica) -> bool:
        """Whether room is held for the replica because no pod of it was seen."""
        share = self._fleet.pods.find_share(self._share_key(replica.cluster))
        return share is not None and replica.position >= 0 and share.hold_at(replica.position) is not None

    def _cluster_shares(self) -> ClusterShares | None:
        """How replicas are shared out, where the terms say so, from how they are now."""
        plan = self.plan
        if plan.sharing is None or plan.duplicated:
            return None
        present = (index for index in map(self._index_of, self.replicas) if index != UNKNOWN)
        desired = min(plan.desired, 1) if plan.division is Division.TOGETHER else plan.desired
        return ClusterShares(self._fleet, self._profile, plan.sharing, desired, present)

    def _index_of(self, replica: Replica) -> int:
        cluster = self._fleet.clusters.get(replica.cluster)
        return cluster.index if cluster is not None else UNKNOWN

    def _spread(self) -> Spread:
        spread = Spread(self._fleet.table, self.plan.desired, self._fleet.config.weights.spread)
        for replica in self.replicas:
            row = self._row(replica)
            if row != NO_ROW:
                spread.add(row)
            elif (cluster := self._fleet.clusters.get(replica.cluster)) is not None:
                spread.add_to_cluster(cluster.index)
        return spread

    def _free_ordinals(self) -> Iterator[int]:
        if self.plan.division is not Division.NODES:
            return repeat(0)
        if not self.replicas and not self.leaving:
            return count()
        taken = {replica.ordinal for replica in (*self.replicas, *self.leaving)}
        return filterfalse(taken.__contains__, count())

    def _fits(self, row: int) -> bool:
        return self._profile.cost(row) != np.inf

    def _row(self, replica: Replica) -> int:
        slot = self._fleet.slots.get(replica.cluster, replica.node) if replica.node else None
        return slot.row if slot is not None else NO_ROW

    def _share_key(self, cluster: str) -> ShareKey:
        return ShareKey(self._workload, self.plan.name, cluster)
