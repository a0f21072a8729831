"""What a workload may cost an hour, and what is left of it: `placement.maxPricePerHour`.

A replica goes to the best of the nodes on which it costs no more than an even part of what is left, for as many of the
missing replicas as there is a node for at that part. So money that is spent on a better node is never missing for
another replica: where replicas do not depend on each other, as many have a place as could be paid at all, and where
all can, all have one. Proof: let m be the most replicas that can be paid with `left`, so with the m cheapest places.
The cheapest of these costs `left / m` or less, so the part is that of m replicas or of more, and no place that costs
`left / m` or less leaves too little for the m - 1 cheapest of the others.

What is placed is counted at what it costs now: replicas that Flotilla binds on their nodes, and those of a cluster's
own scheduler where their pods were seen, or else where room is held for them. One whose pod's node is gone counts at
the least price in its cluster until there is another: the money of a pod that starts again is nobody else's. What has
run to its end costs nothing, nor what is replaced and about to go. Nothing that is placed is given up for its price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

import numpy as np

from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.placing.replicas import Replica, by_cluster
from services.scheduler.decision.scoring.prices import counted, in_words
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey, ShareReservations
from services.scheduler.decision.seen.slots import NO_ROW, NodeSlot
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, IntArray
from shared.events.v1.decisions import PodSetPlacement

OVER_BUDGET = "OverBudget"


class Purse:
    """For one decision. `spent` is what each pod set costs; `limit` is for all of them together."""

    def __init__(self, limit: int, spent: dict[str, int]) -> None:
        self.limit = limit
        self._spent = spent

    def note(self, pod_set: str, amount: int) -> None:
        """The pod set costs so much now."""
        self._spent[pod_set] = amount

    def left_beside(self, pod_set: str, own: int) -> int:
        """What is left when a pod set costs so much; less than nothing where prices rose, or the limit was lowered."""
        return self.limit - own - sum(amount for name, amount in self._spent.items() if name != pod_set)

    @property
    def left(self) -> int:
        return self.limit - sum(self._spent.values())


class Spending:
    """What is spent while replicas of one pod set are placed. `prices` are by row, `missing` those that have no place.

    `rows` are those where the last one could go; `lowest` is set instead where the cheapest costs more than is left.
    """

    def __init__(self, prices: IntArray, limit: int, left: int, missing: int) -> None:
        self._prices = prices
        self._limit = limit
        self._missing = missing
        self.left = max(left, 0)
        self.rows: BoolArray | None = None
        self.lowest: int | None = None

    def affordable(self, passing: BoolArray) -> BoolArray | None:
        """Of the rows that pass, and others, those where the next replica may go; None where there are none."""
        prices, left, self.rows, self.lowest = self._prices[passing], self.left, None, None
        if not len(prices):
            return None
        lowest, many = int(prices.min()), max(self._missing, 1)
        if lowest > left:
            self.lowest = lowest
            return None
        if lowest * many > left:
            many = left // lowest
        self.rows = self._prices <= left // many
        return self.rows

    def pay(self, row: int) -> None:
        """A replica goes to this row."""
        self.left -= self._prices.item(row)
        self._missing -= 1

    def why(self) -> str:
        """In words, for replicas that wait since the cheapest place costs too much."""
        lowest = self.lowest or 0
        return (
            f"one more replica costs {in_words(lowest)} an hour or more, and of placement.maxPricePerHour "
            f"{in_words(self._limit)} there is {in_words(self.left)} left: {in_words(lowest - self.left)} too little"
        )


def purse_of(
    fleet: Fleet, key: str, plans: Iterable[PodSetPlan], placed: Mapping[str, PodSetPlacement], *, beside: bool = False
) -> Purse | None:
    """`placed` are outcomes that are there, by pod set; of more than are desired some are about to be given up. With
    `beside` plans are of what is to come beside all of these. None without a limit.
    """
    limit, spent = None, {}
    for plan in plans:
        if plan.price_limit is None or not plan.holds_room:
            continue
        limit, outcome = plan.price_limit, placed.get(plan.name)
        most = None if beside or plan.duplicated else plan.desired
        spent[plan.name] = spent_on(fleet, key, plan, outcome, most) if outcome is not None else 0
    if limit is None:
        return None
    return Purse(counted(limit) - sum(spent.values()), {}) if beside else Purse(counted(limit), spent)


def spent_on(fleet: Fleet, key: str, plan: PodSetPlan, outcome: PodSetPlacement, most: int | None = None) -> int:
    """What the replicas of an outcome cost that count; of more than `most` those that cost most."""
    prices = fleet.profiles.get(plan.demand).prices()
    costs: list[int] = []
    for share in outcome.shares:
        nodes = share.nodes or ("",) * share.replicas
        replicas = [Replica(share.cluster, nodes[position], 0, position) for position in range(share.kept)]
        costs += _costs_in(fleet, prices, ShareKey(key, plan.name, share.cluster), replicas)
    return sum(sorted(costs, reverse=True)[:most])


def spent_by(fleet: Fleet, prices: IntArray, key: str, plan: PodSetPlan, replicas: Iterable[Replica]) -> int:
    """What these replicas cost; those without a position are new, and are where their node is."""
    total = 0
    for cluster, mine in by_cluster(replicas).items():
        total += sum(_costs_in(fleet, prices, ShareKey(key, plan.name, cluster), mine))
    return total


def _costs_in(fleet: Fleet, prices: IntArray, where: ShareKey, replicas: Sequence[Replica]) -> list[int]:
    """Of those that were seen nobody knows which pod is whose: they count as those that cost most."""
    share, costs, seen = fleet.pods.find_share(where), [], 0
    for replica in replicas:
        slot: NodeSlot | None
        if replica.position < 0 or (share is not None and share.bound):
            slot = fleet.slots.get(where.cluster, replica.node)
        elif share is not None and (hold := share.hold_at(replica.position)) is not None:
            slot = hold.slot
        else:
            seen += 1
            continue
        costs.append(_at(prices, slot))
    if seen and share is not None:
        costs += _costs_of_seen(fleet, prices, share, seen)
    return costs


def _costs_of_seen(fleet: Fleet, prices: IntArray, share: ShareReservations, most: int) -> list[int]:
    """A pod whose node is gone is about to be on another: it costs what it would on the cheapest."""
    slots = [pod.slot for pod in fleet.pods.pods_of(share) if pod.hold is not None]
    costs = [_at(prices, slot) for slot in slots if _is_there(slot)]
    if nowhere := len(slots) - len(costs):
        costs += [_lowest_in(fleet, prices, share.key.cluster)] * nowhere
    return sorted(costs, reverse=True)[:most]


def _lowest_in(fleet: Fleet, prices: IntArray, cluster: str) -> int:
    """What a replica costs on the cheapest node of a cluster; 0 where that has none."""
    found = fleet.clusters.get(cluster)
    if found is None:
        return 0
    there = prices[np.repeat(fleet.table.block_cluster == found.index, BLOCK) & fleet.table.alive]
    return int(there.min()) if len(there) else 0


def _is_there(slot: NodeSlot | None) -> TypeGuard[NodeSlot]:
    return slot is not None and slot.row != NO_ROW


def _at(prices: IntArray, slot: NodeSlot | None) -> int:
    return prices.item(slot.row) if _is_there(slot) else 0
