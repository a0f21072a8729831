"""How the replicas of a pod set are shared out among clusters, where its terms say so.

Each next replica goes to the node that costs least among those of the clusters that are due, and these are, in order:

1. clusters that may have it at all: with a weight, in a tier, in a group for each spread constraint; as long as fewer
   than `minGroups` groups have replicas, only clusters of further groups, and from `maxGroups` on only of those that
   have some. A further group is opened only if the replicas that are missing fit into it and as many others as may
   still be opened; if no group is so, in any.
2. of these, the clusters of the first tier that has room;
3. of these, the cluster with the highest claim that has room, `weight / (2 · replicas + 1)`, equal ones together.

A preference is a cost for the clusters that it does not select: `weights.preferences · its weight / sum of weights`.
The choice within the clusters that are due is the argmin over all their nodes, as everywhere. Replicas are given up in
the opposite order: those of the last tier first, then where the last one had the lowest claim, `weight / (2 · replicas
- 1)`, then where a replica costs most; never the last one of a group that is needed for `minGroups`.

Claims make this Webster's (Sainte-Laguë's) divisor method, one seat after the other: shares are monotone in the number
of replicas, which largest remainders are not (the Alabama paradox), so that scaling moves only the difference.
With a dynamic weight, which is what a cluster could run, this holds as well: a replica that is placed takes one from
its cluster's room and adds one to what it has.

Source: M. Balinski, H. Young, Fair Representation (1982), chapters 3 and 4 and appendix A; Karmada's
`pkg/scheduler/core` for the policies' names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property

import numpy as np

from services.scheduler.decision.clusters import Cluster
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, IntArray
from shared.events.v1.policies import SpreadConstraint
from shared.events.v1.workloads import PlacementTerms
from shared.model.identities import PROVIDER_LABEL, REGION_LABEL, ZONE_LABEL

_LABELS = {"provider": PROVIDER_LABEL, "region": REGION_LABEL, "zone": ZONE_LABEL}
_NO_GROUP = -1
# More than any cluster runs of one shape, and small enough that sums stay exact.
_MUCH_ROOM = 1_000_000_000


class ClusterShares:
    """See the module. `counts` are the replicas in each cluster, by index; `present` has one for each replica.

    Made for one decision: room only becomes less meanwhile, so that a cluster that was found full stays so. `desired`
    is 1 for what is placed whole.
    """

    def __init__(
        self, fleet: Fleet, profile: Profile, terms: PlacementTerms, desired: int, present: Iterable[int]
    ) -> None:
        self._fleet = fleet
        self._profile = profile
        self._terms = terms
        self._wanted = desired
        clusters = list(fleet.clusters)
        self._clusters = clusters
        self.counts: IntArray = np.bincount([*present], minlength=len(clusters)).astype(np.int64)
        self._full: BoolArray = np.zeros(len(clusters), np.bool_)
        self._tiers = _tiers(terms, clusters)
        self._spreads = [_Groups(constraint, clusters) for constraint in terms.spread_constraints]
        # What the last choice added to costs, by domain.
        self.further: FloatArray | None = None
        self._preference = _preferences(terms, clusters, fleet.config.weights.preferences)
        # A dynamic weight is of what is there before anything changes.
        self._weights = self._weigh()
        self.eligible = self._eligible()

    def count(self, index: int, change: int) -> None:
        """A cluster has that many more replicas."""
        self.counts[index] += change
        if change > 0 and "_room" in self.__dict__:
            self._room[index] = max(self._room[index] - change, 0)

    def _eligible(self) -> BoolArray:
        """The clusters that may have replicas at all, as far as these terms go."""
        eligible = (self._tiers >= 0) & (self._weights > 0)
        for groups in self._spreads:
            eligible &= groups.of != _NO_GROUP
        return np.asarray(eligible)

    def _weigh(self) -> FloatArray:
        preference, clusters = self._terms.weight_preference, self._clusters
        if preference is None:
            return np.ones(len(clusters))
        if preference.dynamic_weight is not None:
            return np.asarray(self.counts + self._room, np.float64)
        matching = (
            [item.weight for item in preference.static_weight_list if item.selects(cluster.name, cluster.labels)]
            for cluster in clusters
        )
        return np.fromiter((max(weights, default=0) for weights in matching), np.float64)

    @cached_property
    def _room(self) -> IntArray:
        """How many such replicas fit into each cluster that takes any."""
        table = self._fleet.table
        room = np.minimum(self._profile.room(np.arange(table.rows)), _MUCH_ROOM)
        by_block = np.where(self._profile.open_blocks(), room.reshape(-1, BLOCK).sum(axis=1), 0)
        found = np.zeros(len(self._clusters), np.int64)
        np.add.at(found, table.block_cluster, by_block)
        return np.asarray(found)

    # --- gaining ---

    def best(self, spread: FloatArray | None, avoid: Collection[int] = (), only: BoolArray | None = None) -> int | None:
        """The row for the next replica, or None; `spread` is a further cost for each domain, as in `Profile.best`.

        `only` leaves rows out that it may have another time: what is full for that stays so for no other choice.
        """
        avoided = np.zeros(len(self._clusters), np.bool_)
        avoided[list(avoid)] = True
        full = self._full if only is None else self._full.copy()
        while True:
            due = self._due(self._allowed(avoided) & ~full & ~avoided)
            if not due.any():
                return None
            self.further = self._costs(due, spread)
            profile = self._profile
            row = profile.best(self.further) if only is None else profile.best_within(only, self.further)
            if row is not None:
                return row
            full |= due
            if only is None and "_room" in self.__dict__:
                self._room[due] = 0

    def closed(self, avoid: Collection[int]) -> FloatArray:
        """A cost for each domain, infinite where the next replica may not go."""
        return np.where(self.allowed(avoid)[self._fleet.table.domain_cluster], 0.0, np.inf)

    def allowed(self, avoid: Collection[int]) -> BoolArray:
        """The clusters that may have the next replica, whichever tier is theirs and whatever their claim."""
        avoided = np.zeros(len(self._clusters), np.bool_)
        avoided[list(avoid)] = True
        return np.asarray(self._allowed(avoided) & ~avoided)

    def _due(self, allowed: BoolArray) -> BoolArray:
        if allowed.any():
            allowed = allowed & (self._tiers == self._tiers[allowed].min())
            if self._terms.weight_preference is not None:
                claims = self._weights / (2 * self.counts + 1)
                allowed = allowed & (claims == claims[allowed].max())
        return allowed

    def _allowed(self, avoided: BoolArray) -> BoolArray:
        allowed = self.eligible
        for groups in self._spreads:
            allowed = allowed & self._by_groups(groups, avoided)
        return allowed

    def _by_groups(self, groups: _Groups, avoided: BoolArray) -> BoolArray:
        """The clusters that a constraint leaves for the next replica."""
        used = groups.used(self.counts)
        if used.sum() < min(groups.constraint.min_groups, self._wanted):
            allowed = ~used[groups.of]
        else:
            allowed = np.ones(len(self._clusters), np.bool_)
        most = groups.constraint.max_groups
        if most is None:
            return np.asarray(allowed)
        if used.sum() >= most:
            return np.asarray(allowed & used[groups.of])
        room = groups.sums(np.where(self.eligible & ~avoided, self._room, 0))
        missing = max(self._wanted - int(self.counts.sum()), 1)
        fitting = ~used & (_with_best_others(room, used, int(most - used.sum())) >= missing)
        fitting[_NO_GROUP] = False
        return np.asarray(allowed & (used | fitting)[groups.of]) if fitting.any() else np.asarray(allowed)

    def _costs(self, due: BoolArray, spread: FloatArray | None) -> FloatArray:
        cluster = self._fleet.table.domain_cluster
        costs = self._preference[cluster]
        if spread is not None:
            costs = costs + spread
        return np.where(due[cluster], costs, np.inf)

    def shortage(self, avoid: Collection[int]) -> str:
        """Why no replica is placed at all, in words: there is no room in enough groups."""
        if not self._spreads:
            return ""
        open_to = self.eligible & (self._room > 0)
        open_to[list(avoid)] = False
        for index, groups in enumerate(self._spreads):
            wanted = min(groups.constraint.min_groups, self._wanted)
            found = int(groups.used(self.counts + open_to).sum())
            if found < wanted:
                where = f"placement.spreadConstraints.{index}"
                by = groups.constraint.spread_by_field
                return f"{where} wants {wanted} groups by {by}, and {found} can have replicas"
        return ""

    # --- giving up ---

    def to_give_up(self, costs: dict[int, float]) -> int:
        """The cluster that gives up the next replica; `costs` are of one more in each cluster that has some."""
        spared = self._spared()
        chosen = [index for index in costs if index not in spared] or list(costs)
        return max(chosen, key=lambda index: (*self._seat(index, int(self.counts[index])), costs[index], -index))

    def improves(self, taker: int, giver: int) -> bool:
        """Whether a replica that goes from one cluster to the other, which has it already, is better there."""
        return self._seat(taker, self.counts[taker]) < self._seat(giver, self.counts[giver])

    def compare(self, taker: int, giver: int) -> int:
        """Below zero where one more replica rather belongs into the one cluster than the other, else above."""
        ours, theirs = (self._seat(index, int(self.counts[index]) + 1) for index in (taker, giver))
        return (ours > theirs) - (ours < theirs)

    def preference_of(self, index: int) -> float:
        """What a cluster costs since others are preferred."""
        return float(self._preference[index])

    def needs_group(self) -> bool:
        """Whether there are fewer groups than there should be."""
        return any(
            groups.used(self.counts).sum() < min(groups.constraint.min_groups, self._wanted) for groups in self._spreads
        )

    def surplus_clusters(self) -> set[int]:
        """Clusters that must not have any: not eligible, or in groups beyond `maxGroups`, the smallest of them."""
        surplus = set(np.flatnonzero((self.counts > 0) & ~self.eligible).tolist())
        for groups in self._spreads:
            kept = groups.largest(self.counts)
            surplus.update(np.flatnonzero((self.counts > 0) & ~kept[groups.of]).tolist())
        return surplus

    def _seat(self, index: int, count: int) -> tuple[bool, int, float]:
        """How little the last of so many replicas belongs into a cluster."""
        if not self.eligible[index]:
            return True, 0, 0.0
        weighted = self._terms.weight_preference is not None
        claim = (2 * int(count) - 1) / float(self._weights[index]) if weighted else 0.0
        return False, int(self._tiers[index]), claim

    def _spared(self) -> set[int]:
        """Clusters whose last replica is that of a group without which there would be too few."""
        spared: set[int] = set()
        for groups in self._spreads:
            if groups.used(self.counts).sum() <= min(groups.constraint.min_groups, self._wanted):
                alone = groups.sums(self.counts) == 1
                spared.update(np.flatnonzero(alone[groups.of] & (self.counts > 0)).tolist())
        return spared


class _Groups:
    """The clusters by what a constraint spreads over; `of` has a number for each, the last is that of no group."""

    def __init__(self, constraint: SpreadConstraint, clusters: Iterable[Cluster]) -> None:
        self.constraint = constraint
        label = _LABELS.get(constraint.spread_by_field)
        names = [cluster.labels.get(label, "") if label else cluster.name for cluster in clusters]
        self._names = sorted({name for name in names if name})
        numbers = {name: number for number, name in enumerate(self._names)}
        self.of: IntArray = np.array([numbers.get(name, _NO_GROUP) for name in names], np.int64)

    def sums(self, amounts: IntArray) -> IntArray:
        """By group, with a zero at the end for what is in none."""
        sums = np.zeros(len(self._names) + 1, np.int64)
        np.add.at(sums, self.of, amounts)
        sums[_NO_GROUP] = 0
        return sums

    def used(self, counts: IntArray) -> BoolArray:
        return np.asarray(self.sums(counts) > 0)

    def largest(self, counts: IntArray) -> BoolArray:
        """As many groups as there may be, those with most replicas; of equal ones the first by name."""
        sums = self.sums(counts)
        most = self.constraint.max_groups
        kept = np.ones(len(sums), np.bool_)
        if most is not None:
            ordered = sorted(range(len(self._names)), key=lambda number: (-sums[number], self._names[number]))
            kept[ordered[most:]] = False
        return kept


def _with_best_others(room: IntArray, used: BoolArray, left: int) -> IntArray:
    """For each group that has none: what fits into it, those that have some, and the best others, `left` in all."""
    inside = int(room[used].sum())
    others = np.sort(np.where(used, 0, room))[::-1]
    top = int(others[:left].sum())
    # A group that is not among the best takes the place of the least of them.
    least = int(others[left - 1]) if left <= len(others) else 0
    return np.asarray(inside + top + np.minimum(room - least, 0))


def _tiers(terms: PlacementTerms, clusters: Iterable[Cluster]) -> IntArray:
    """The first tier of each cluster, -1 for those in none."""
    if not terms.overflow:
        return np.zeros(len(list(clusters)), np.int64)
    found = (
        next((tier for tier, item in enumerate(terms.overflow) if item.selects(cluster.name, cluster.labels)), -1)
        for cluster in clusters
    )
    return np.fromiter(found, np.int64)


def _preferences(terms: PlacementTerms, clusters: Iterable[Cluster], scale: float) -> FloatArray:
    """The cost of each cluster for the preferences that do not select it."""
    total = sum(item.weight for item in terms.preferences) or 1
    return np.fromiter(
        (
            scale
            * (sum(item.weight for item in terms.preferences if not item.selects(cluster.name, cluster.labels)) / total)
            for cluster in clusters
        ),
        np.float64,
    )
