"""Whose replicas give way to one that waits: the least that makes room, on the node where that costs least.

On one node, as in kube-scheduler: everything that may give way is lifted from the node table; if the replica fits then,
units are put back as long as it still does, those that would break a disruption budget first, then from the most
important one down. What cannot be put back are the victims: none of them could stay, so there are never more than
needed. Where a budget would be broken, or where it is not known whether the pods that go are these, the node is no
candidate.

Of all nodes that one is taken where the highest rank among the victims is lowest, then where the sum of ranks is least
(each counted from the lowest possible, so that fewer victims weigh less), then the number of replicas, and then
the node's place in the stable order. Every node is looked at whose bound (`spare`) is not worse than what was found.

What is bound by Flotilla takes room from what is bound by Flotilla, and a cluster's own scheduler may fill what either
leaves. Of pods that a cluster's own scheduler bound nobody knows which ones their controller deletes. So they are
victims where all of the share's pods are on the node; or where one such pod is enough, and would be on any of the nodes
where the share has pods.

    found = victims.find(claim, draft)        # None: nobody can make room
    victims.take(found)                       # lifted until `end`; further searches see it so
    draft.take(found.row, displaced)          # the replica has the room, before anybody else
    victims.end()                             # puts all back, and hands out what was taken, to be decided upon at once

Source: k8s.io/kubernetes pkg/scheduler/framework/preemption (`pickOneNodeForPreemption`) and
plugins/defaultpreemption (`SelectVictimsOnNode`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.placing.drafts import PodSetDraft
from services.scheduler.decision.preempting.budgets import Budgets
from services.scheduler.decision.preempting.claims import Claim
from services.scheduler.decision.preempting.spare import NO_RANK, Spare, fewest
from services.scheduler.decision.preempting.units import Taken, Unit, Units
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey, ShareReservations
from services.scheduler.decision.seen.slots import Hold
from services.scheduler.decision.table.arrays import IntArray, Rows

_LOWEST_RANK = -(2**31)
_KEPT = 4

# The highest rank, the sum of ranks, how many replicas, the node's place.
Cost = tuple[int, int, int, float]


@dataclass(frozen=True, slots=True)
class Found:
    """Where a replica has room when `units` give way, and pods that are about to go (`going`) are gone."""

    row: int
    units: tuple[Unit, ...]
    going: tuple[Hold, ...]
    cost: Cost

    def without(self, spared: Collection[Unit]) -> Found:
        return replace(self, units=tuple([unit for unit in self.units if unit not in spared]))


class Victims:
    """`looked` counts the nodes that were looked at."""

    def __init__(self, fleet: Fleet, workloads: Workloads) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._budgets = Budgets(fleet, workloads)
        self._spare: dict[Claim, Spare] = {}
        self._taken = Taken()
        self._any_will_do: dict[ShareReservations, bool] = {}
        self.looked = 0

    def find(self, claim: Claim, draft: PodSetDraft) -> Found | None:
        """For the next replica of a draft."""
        bound = draft.plan.division is Division.NODES
        units, profile = Units(self._fleet, self._workloads, claim, bound=bound), draft.profile
        self._any_will_do.clear()
        if self._own_pods_go(draft):
            return None
        best: Found | None = None
        rows, bounds = self._candidates(claim, draft)
        for row, bound_of_row in zip(rows.tolist(), bounds, strict=True):
            if best is not None and bound_of_row >= best.cost:
                break
            self.looked += 1
            found = self._on(row, units, claim, profile)
            if found is not None and (best is None or found.cost < best.cost):
                best = found
        return best

    def take(self, found: Found) -> None:
        """These give way: until `end` their room is free, and further searches know."""
        self._budgets.spend(found.units)
        self._taken.add(found.units, found.going)
        for hold in (*found.going, *_holds(found.units)):
            self._fleet.slots.lift(hold)

    def spare(self, unit: Unit) -> bool:
        """Whether one that gave way has its room still, beside all that was placed since; then it does not give way.
        What it asks of ports and other pods is not looked at: who asks for such does not stay.
        """
        if any(hold.request.ports for hold in unit.holds):
            return False
        self._put_back(unit)
        if not all(map(self._has_room, unit.holds)):
            self._lift(unit)
            return False
        self._taken.drop(unit)
        return True

    def _has_room(self, hold: Hold) -> bool:
        """Whether a node has all that a hold takes, with whatever else is held there."""
        table, row = self._fleet.table, hold.slot.row
        enough = (table.free[row] >= 0) | (hold.request.vector <= 0)
        return bool(enough.all()) and all(table.devices.free[row, device] >= 0 for device in hold.devices)

    def end(self) -> Sequence[Unit]:
        """All that gave way since the last time, put back: as long as it is not decided so, nothing has happened."""
        taken, self._taken = self._taken, Taken()
        for hold in taken.holds:
            self._fleet.slots.put_back(hold)
        self._budgets.begin()
        return taken.units

    def _own_pods_go(self, draft: PodSetDraft) -> bool:
        """Whether pods of the pod set itself stand for no replica: the next one takes the room of one of these."""
        for cluster in self._fleet.clusters:
            where = ShareKey(draft.workload, draft.plan.name, cluster.name)
            share = self._fleet.pods.find_share(where) if cluster.heard else None
            if share is not None and share.seen > share.replicas:
                running = sum(pod.hold is not None for pod in self._fleet.pods.pods_of(share))
                if running > share.replicas:
                    return True
        return False

    # --- candidates ---

    def _candidates(self, claim: Claim, draft: PodSetDraft) -> tuple[Rows, list[Cost]]:
        """Rows that may have room, with what the victims there cost at least, in this order."""
        table, request = self._fleet.table, draft.profile.request
        spare = self._spare_for(claim)
        open_rows = draft.open_rows()
        vector, floor = request.vector, request.floor
        left = table.free + spare.going
        rows = np.flatnonzero(open_rows & ((left + spare.amounts) >= floor).all(axis=1))
        rows = rows[(spare.lowest[rows] != NO_RANK) | spare.going[rows].any(axis=1)]
        if not len(rows):
            return rows, []
        deficit: IntArray = np.where(vector > 0, vector - left[rows], 0)
        count = fewest(deficit, spare.largest[rows])
        lowest = np.where(count > 0, spare.lowest[rows], _LOWEST_RANK - 1)
        total = count * (spare.lowest[rows] - _LOWEST_RANK + 1)
        order = table.order[rows]
        places = np.lexsort((order, count, total, lowest))
        columns = (lowest[places].tolist(), total[places].tolist(), count[places].tolist(), order[places].tolist())
        return rows[places], list(zip(*columns, strict=True))

    def _spare_for(self, claim: Claim) -> Spare:
        spare = self._spare.pop(claim, None) or Spare(self._fleet, self._workloads, claim)
        while len(self._spare) >= _KEPT:
            del self._spare[next(iter(self._spare))]
        self._spare[claim] = spare
        spare.refresh()
        return spare

    def _on(self, row: int, units: Units, claim: Claim, profile: Profile) -> Found | None:
        """The victims on one node; None where nothing that may give way makes room."""
        slots, order = self._fleet.slots, float(self._fleet.table.order[row])
        there = units.on(slots.by_row(row), self._taken)
        for hold in there.going:
            slots.lift(hold)
        victims: list[Unit] | None = []
        if profile.cost(row) == np.inf:
            victims = self._fewest(row, claim.together(there.units), profile)
        for hold in there.going:
            slots.put_back(hold)
        if victims is None:
            return None
        ranks = [unit.rank for unit in victims]
        total = sum((unit.rank - _LOWEST_RANK + 1) * unit.replicas for unit in victims)
        count = sum(unit.replicas for unit in victims)
        return Found(row, tuple(victims), there.going, (max(ranks, default=_LOWEST_RANK - 1), total, count, order))

    def _fewest(self, row: int, units: Sequence[Unit], profile: Profile) -> list[Unit] | None:
        for unit in units:
            self._lift(unit)
        if profile.cost(row) == np.inf:
            for unit in units:
                self._put_back(unit)
            return None
        ordered = sorted(units, key=lambda unit: unit.importance)
        breaking = self._budgets.violating(ordered)
        victims: list[Unit] = []
        for unit in sorted(ordered, key=lambda unit: unit not in breaking):
            self._put_back(unit)
            if profile.cost(row) == np.inf:
                self._lift(unit)
                victims.append(unit)
        for unit in victims:
            self._put_back(unit)
        return victims if self._may_go(victims, profile) else None

    def _may_go(self, victims: Sequence[Unit], profile: Profile) -> bool:
        if self._budgets.violating(victims):
            return False
        if all(unit.known for unit in victims):
            return True
        return len(victims) == 1 and self._does_any(victims[0].share, profile)

    def _does_any(self, share: ShareReservations, profile: Profile) -> bool:
        """Whether the replica has room wherever one of a share's pods goes."""
        known = self._any_will_do.get(share)
        if known is None:
            slots, known = self._fleet.slots, True
            for pod in self._fleet.pods.pods_of(share):
                if pod.hold is None or pod.hold in self._taken.holds:
                    continue
                slots.lift(pod.hold)
                known = known and pod.slot.row >= 0 and profile.cost(pod.slot.row) != np.inf
                slots.put_back(pod.hold)
            self._any_will_do[share] = known
        return known

    def _lift(self, unit: Unit) -> None:
        for hold in unit.holds:
            self._fleet.slots.lift(hold)

    def _put_back(self, unit: Unit) -> None:
        for hold in unit.holds:
            self._fleet.slots.put_back(hold)


def _holds(units: Sequence[Unit]) -> tuple[Hold, ...]:
    return tuple(hold for unit in units for hold in unit.holds)
