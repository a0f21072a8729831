"""What candidate sizes are worth, and who finds a place with them: see `searching.Judge`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from services.autoscaler.decision.nodes.bounding import Bounding, Limit, effective_prices
from services.autoscaler.decision.nodes.catalogue import Catalogue
from services.autoscaler.decision.nodes.packing import Kinds
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import BoolArray, FloatArray, IntArray, SchedulerConfig
from services.autoscaler.decision.nodes.searching import Candidate, Sizes
from services.autoscaler.decision.nodes.seen import GroupKey, PodSet, Seen
from services.autoscaler.decision.nodes.stock import Stock
from services.autoscaler.decision.nodes.trial import Trial
from shared.events.v1 import waiting

NO_GROUP = "no node group has nodes on which such pods may run"
AT_LIMIT = "the node groups on whose nodes such pods may run are at their limits"
NOT_HEARD = "the clusters with node groups on whose nodes such pods may run are not heard, or take no pods"
CLOSED_OR_AT_LIMIT = f"{AT_LIMIT}, or their providers had none lately"
OUT_OF_STOCK = "the providers of nodes on which such pods may run had none lately"
NOT_ENOUGH = "the scheduler finds no place for them on the nodes that may be added"


class Lack(NamedTuple):
    """Why no node is made for pods: in one word (`shared.events.v1.waiting`), in a sentence, and the groups with such
    nodes that are left alone, since their providers had none lately.
    """

    kind: str
    text: str
    closed: tuple[GroupKey, ...] = ()


class _Tried(NamedTuple):
    """Of a candidate: how many pods of each pod set that waits, and how many of the head-room's, find a place; how many
    of the new nodes of each group anything is on; and how full they are, see `rewards`.
    """

    placed: tuple[int, ...]
    head_room: tuple[int, ...]
    used: Sizes
    fit: float


class Sizing:
    """Of new nodes beside those that there are and those that are on their way.

    `room` is by group how many there may be, and of use; `least_price` what is about the least that they cost: the sum
    of the cheapest dominant shares of the pods that have no place without them. `complete` as of `searching.Judge`.
    """

    def __init__(self, seen: Seen, policy: Policy, config: SchedulerConfig, stock: Stock, now_ms: int) -> None:
        self._seen, self._rewards = seen, policy.rewards
        self._ranks = sorted({item.priority for item in seen.pending}, reverse=True)
        self._coming = coming(seen)
        self._trial = Trial(seen, config)
        self._catalogue = Catalogue(seen, config)
        self._prices = effective_prices(seen.groups)
        self._standing: FloatArray = np.array([stock.standing(group.key, now_ms) for group in seen.groups], np.float64)
        clusters = {cluster.name for cluster in seen.clusters if cluster.open}
        is_open = [group.cluster in clusters for group in seen.groups]
        in_stock = [stock.is_open(group.key, now_ms) for group in seen.groups]
        # What the owner allows; of that, what may be asked for now; and of that, what there is to be had.
        self._free: IntArray = np.array([max(0, group.most - group.size) for group in seen.groups], np.int64)
        self._allowed: IntArray = self._free * np.array(is_open, np.int64)
        self._possible: IntArray = self._allowed * np.array(in_stock, np.int64)
        self._tried: dict[Sizes, _Tried] = {}
        self.nothing: Sizes = (0,) * len(seen.groups)
        lacking = self.left(self.nothing)
        kinds = self._catalogue.kinds(self._prices, self._possible)
        each = kinds.least_prices()
        self.least_price = float((lacking * np.where(np.isfinite(each), each, 0.0)).sum())
        # What other pods leave when they go to new nodes may be what a pod lacks that cannot follow them.
        wanted = (*seen.pending, *seen.head_room)
        all_of_them = self._catalogue.count(wanted, [item.count for item in wanted])
        self.room: IntArray = np.minimum(self._possible, ((kinds.most > 0) * all_of_them[:, None]).sum(axis=0))
        self.complete = self._complete(kinds)
        self._bounding = Bounding(seen, policy, self._catalogue, self._trial, self._coming, self._possible)

    def _complete(self, kinds: Kinds) -> tuple[int, ...]:
        """All pods for which any group may have nodes; of others as many as find room where nobody else waits."""
        self._trial.resize(self._coming)
        some: list[bool] = np.asarray((kinds.most > 0).any(axis=1)).tolist()

        def most(item: PodSet) -> int:
            return item.count if some[self._catalogue.kind_of(item)] else min(item.count, self._trial.room_for(item))

        return self._placed(map(most, self._seen.pending), map(most, self._seen.head_room))

    # --- for the search ---

    def try_out(self, sizes: Sizes) -> Candidate:
        tried = self._try(sizes)
        vectors = np.array([sizes], np.int64)
        wished = sum(item.count for item in self._seen.head_room)
        utilities = {
            "price": float(self._price_utility(vectors)[0]),
            "head_room": sum(tried.head_room) / wished if wished else 1.0,
            "disruption": 1.0,
            "availability": float(self._availability(vectors)[0]),
            "fit": tried.fit,
        }
        placed = self._placed(tried.placed, tried.head_room)
        return Candidate(sizes, placed, self._rewards.of(utilities), utilities)

    def allows(self, vectors: IntArray) -> BoolArray:
        return self._bounding.allows(vectors)

    def may_fit(self, vectors: IntArray) -> BoolArray:
        return self._bounding.may_fit(vectors)

    def bounds(self, vectors: IntArray) -> FloatArray:
        rewards = self._rewards
        known = rewards.price * self._price_utility(vectors) + rewards.availability * self._availability(vectors)
        return known + rewards.head_room + rewards.disruption + rewards.fit

    def _price_utility(self, vectors: IntArray) -> FloatArray:
        return 1.0 - (vectors @ self._prices) / (2.0 * self.least_price or 1.0)

    def _availability(self, vectors: IntArray) -> FloatArray:
        nodes = vectors.sum(axis=1)
        return np.where(nodes > 0, (vectors @ self._standing) / np.maximum(nodes, 1), 1.0)

    # --- to begin with, and to say ---

    def satisfied(self, candidate: Candidate) -> bool:
        """Whether more nodes would be of no use."""
        return candidate.placed == self.complete

    def left(self, sizes: Sizes) -> IntArray:
        """By kind, how many pods find no place, head-room included."""
        tried, seen = self._try(sizes), self._seen
        found = zip((*seen.pending, *seen.head_room), (*tried.placed, *tried.head_room), strict=True)
        counts = [pod_set.count - count for pod_set, count in found]
        return self._catalogue.count((*seen.pending, *seen.head_room), counts)

    def kinds(self, sizes: IntArray) -> Kinds:
        """For nodes beside these."""
        return self._catalogue.kinds(self._prices, self.room - sizes)

    def within_limits(self, sizes: IntArray) -> IntArray:
        """As many of these nodes as limits leave; the dearest are left out first."""
        sizes = np.minimum(sizes, self.room)
        for group in np.argsort(-self._prices, kind="stable").tolist():
            if self.allows(sizes[None, :])[0]:
                break
            fewer = np.repeat(sizes[None, :], sizes[group] + 1, axis=0)
            fewer[:, group] = np.arange(sizes[group] + 1)
            allowed = np.flatnonzero(self.allows(fewer))
            sizes = fewer[int(allowed[-1]) if len(allowed) else 0]
        return sizes

    def used(self, sizes: Sizes) -> Sizes:
        """By group, how many of the new nodes have anything on them."""
        return self._try(sizes).used

    def unplaced(self, sizes: Sizes) -> list[int]:
        """By pod set that waits."""
        placed = self._try(sizes).placed
        return [item.count - count for item, count in zip(self._seen.pending, placed, strict=True)]

    def added_price(self, sizes: Sizes) -> float:
        return sum(group.price * count for group, count in zip(self._seen.groups, sizes, strict=True))

    def lack(self, pod_set: PodSet, sizes: Sizes) -> Lack:
        """Why no node is made for pods that find no place with these sizes."""
        takes = self._catalogue.most[self._catalogue.kind_of(pod_set)] > 0
        if not takes.any():
            return Lack(waiting.NO_GROUP_FITS, NO_GROUP)
        if not (self._allowed[takes] > 0).any():
            any_free = bool((self._free[takes] > 0).any())
            return Lack(waiting.CLUSTER_CLOSED, NOT_HEARD) if any_free else Lack(waiting.LIMIT_REACHED, AT_LIMIT)
        counts = np.array(sizes, np.int64)
        useful = takes & (self._possible > counts)
        if not useful.any():
            lacking = takes & (self._allowed > self._possible)
            if not lacking.any():
                return Lack(waiting.LIMIT_REACHED, AT_LIMIT)
            text = CLOSED_OR_AT_LIMIT if (takes & ~lacking).any() else OUT_OF_STOCK
            closed = tuple(self._seen.groups[number].key for number in np.flatnonzero(lacking).tolist())
            return Lack(waiting.OUT_OF_STOCK, text, closed)
        reached = self._bounding.reached(counts, useful)
        if reached:
            return Lack(waiting.LIMIT_REACHED, f"{AT_LIMIT}: {', '.join(map(_named, reached))}")
        return Lack(waiting.NO_PLACE_FOUND, NOT_ENOUGH)

    def reached(self, sizes: Sizes) -> list[Limit]:
        """The limits that allow no node more of those that would take what has no place, head-room included."""
        counts = np.array(sizes, np.int64)
        useful = (self._catalogue.most > 0)[self.left(sizes) > 0] & (self._possible > counts)
        found = [limit for each in np.unique(useful, axis=0) for limit in self._bounding.reached(counts, each)]
        return list({(limit.cluster, limit.what): limit for limit in found}.values())

    # --- trying ---

    def _try(self, sizes: Sizes) -> _Tried:
        found = self._tried.get(sizes)
        if found is None:
            trial, seen = self._trial, self._seen
            trial.resize([new + count for new, count in zip(self._coming, sizes, strict=True)])
            placed = tuple(len(rows) for rows in trial.place(seen.pending))
            fit = self._fit()
            head_room = tuple(len(rows) for rows in trial.place(seen.head_room))
            found = self._tried[sizes] = _Tried(placed, head_room, self._used(sizes), fit)
        return found

    def _new(self, group: int) -> list[int]:
        return self._trial.new_rows(group)[self._coming[group] :]

    def _fit(self) -> float:
        table = self._trial.table
        rows = [row for group in range(len(self._coming)) for row in self._new(group)]
        if not rows:
            return 1.0
        there = table.allocatable[rows, :2].sum(axis=0)
        free = table.free[rows, :2].sum(axis=0)
        return float(((there - free) / np.maximum(there, 1)).mean())

    def _used(self, sizes: Sizes) -> Sizes:
        table = self._trial.table
        empty = (
            sum(bool((table.free[row] == table.allocatable[row]).all()) for row in self._new(group))
            for group in range(len(sizes))
        )
        return tuple(count - none for count, none in zip(sizes, empty, strict=True))

    def _placed(self, counts: Iterable[int], head_room: Iterable[int]) -> tuple[int, ...]:
        """As of a candidate."""
        found: Counter[int] = Counter()
        for item, count in zip(self._seen.pending, counts, strict=True):
            found[item.priority] += count
        return (*(found[rank] for rank in self._ranks), sum(head_room))


def _named(limit: Limit) -> str:
    scope = f"cluster {limit.cluster}" if limit.cluster else "the fleet"
    return f"{limit.what} of {scope}"


def coming(seen: Seen) -> list[int]:
    """By group, how many nodes were asked for and are not there yet."""
    there = Counter((node.cluster, node.group) for node in seen.nodes if node.group)
    return [max(0, group.size - there[group.key]) for group in seen.groups]
