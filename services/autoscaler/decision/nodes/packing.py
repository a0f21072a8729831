"""Which node groups to grow for pods that have no place: a start for the search, in no time.

Vector bin packing with bins of many kinds, as a covering by patterns: again and again the group whose next node is
worth most for its price is taken, as often as what is left of the pods fills it alike. What a pod is worth is a price
of its own, at first the least part of a node's that it can take (its dominant share); then, as dual prices do in column
generation, that of pods which ended up on poor nodes rises, and all is packed anew. The cheapest of these counts.

Source of the pattern view: Gilmore and Gomory, "A linear programming approach to the cutting-stock problem", 1961; of
filling by dominant share: Ghodsi et al., "Dominant resource fairness", NSDI '11. It says nothing about where pods go:
that is the scheduler's, and it is asked afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from services.autoscaler.decision.nodes.scheduling import FloatArray, IntArray, compiled

_ROUNDS = 12
# Of a node that costs nothing.
_FREE = 1e-9


class Kinds(NamedTuple):
    """What is to be packed. By kind of pod and resource what it asks for (`sizes`); by group and resource what a node
    has (`capacity`), by group its price and how many nodes may come (`room`); by kind and group how many such pods a
    node takes at most (`most`), none where the scheduler's filters refuse it.
    """

    sizes: IntArray
    capacity: IntArray
    prices: FloatArray
    room: IntArray
    most: IntArray

    def shares(self) -> FloatArray:
        """By kind and group, the largest part that a pod takes of anything of a node."""
        parts = self.sizes[:, None, :] / np.maximum(self.capacity[None, :, :], 1)
        return np.asarray(np.minimum(parts.max(axis=2, initial=0.0), 1.0))

    def least_prices(self) -> FloatArray:
        """By kind, the least that one pod can cost, by its dominant share; infinite where no group takes it."""
        each = np.where(self.most > 0, self.shares() * self.prices, np.inf)
        return np.asarray(each.min(axis=1, initial=np.inf))


@compiled(
    "float64(int64, int64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], float64[::1], int64[::1], "
    "int64[::1])"
)
def _fill(
    group: int,
    left: IntArray,
    sizes: IntArray,
    capacity: IntArray,
    most: IntArray,
    order: IntArray,
    worth: FloatArray,
    free: IntArray,
    taken: IntArray,
) -> float:
    """How many of each kind a node of a group takes (`taken`), in their order; returns what they are worth. `free` is
    room to reckon in.
    """
    free[:] = capacity[group]
    value = 0.0
    for kind in order[group]:
        count = min(left[kind], most[kind, group])
        for resource in range(len(free)):
            if sizes[kind, resource] > 0:
                count = min(count, free[resource] // sizes[kind, resource])
        count = max(count, 0)
        taken[kind] = count
        value += count * worth[kind]
        for resource in range(len(free)):
            free[resource] -= count * sizes[kind, resource]
    return value


@compiled(
    "float64(int64[::1], int64[:, ::1], int64[:, ::1], float64[::1], int64[::1], int64[:, ::1], int64[:, ::1], "
    "float64[::1], int64[::1], float64[::1])"
)
def _cover(
    left: IntArray,
    sizes: IntArray,
    capacity: IntArray,
    prices: FloatArray,
    room: IntArray,
    most: IntArray,
    order: IntArray,
    worth: FloatArray,
    nodes: IntArray,
    paid: FloatArray,
) -> float:
    """Packs `left` pods of each kind, which it counts down with `room`, and counts `nodes` of each group up; `order` is
    by group that of kinds. `paid` is, by kind, the worst ratio of price to worth of a node with such a pod. Returns the
    price of all nodes.
    """
    total = 0.0
    chosen, taken = np.zeros(len(left), np.int64), np.zeros(len(left), np.int64)
    free = np.zeros(sizes.shape[1], np.int64)
    while True:
        best, best_group, best_worth = 0.0, -1, 0.0
        for group in range(len(prices)):
            if room[group] > 0:
                value = _fill(group, left, sizes, capacity, most, order, worth, free, taken)
                if value > best * prices[group]:
                    best, best_group, best_worth = value / prices[group], group, value
                    chosen[:] = taken
        if best_group < 0:
            return total
        copies = room[best_group]
        for kind in range(len(left)):
            if chosen[kind]:
                copies = min(copies, left[kind] // chosen[kind])
                paid[kind] = max(paid[kind], prices[best_group] / best_worth)
        for kind in range(len(left)):
            left[kind] -= copies * chosen[kind]
        room[best_group] -= copies
        nodes[best_group] += copies
        total += copies * prices[best_group]


def pack(kinds: Kinds, counts: IntArray) -> IntArray:
    """How many new nodes of each group take the pods, as many as can be taken."""
    shares = np.where(kinds.most > 0, kinds.shares(), 0.0)
    order = np.ascontiguousarray(np.argsort(-shares, axis=0, kind="stable").T)
    prices = np.maximum(kinds.prices, _FREE)
    least = kinds.least_prices()
    worth = np.where(np.isfinite(least), np.maximum(least, _FREE * _FREE), 0.0)
    best: tuple[int, float, IntArray] | None = None
    for _ in range(_ROUNDS):
        left, room = counts.copy(), kinds.room.copy()
        nodes, paid = np.zeros_like(room), np.zeros(len(counts), np.float64)
        price = _cover(left, kinds.sizes, kinds.capacity, prices, room, kinds.most, order, worth, nodes, paid)
        found = int(left.sum()), price, nodes
        if best is None or found[:2] < best[:2]:
            best = found
        # Those that nobody takes have no price.
        worth = worth * np.where(paid > 0, np.sqrt(paid), 1.0)
    assert best is not None
    return best[2]
