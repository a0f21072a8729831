"""What is known of candidates without a trial: whether limits allow them, and whether all pods could fit at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from services.autoscaler.decision.nodes.catalogue import Catalogue
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import BoolArray, FloatArray, IntArray
from services.autoscaler.decision.nodes.seen import GroupKey, Limits, NodeGroup, Seen
from services.autoscaler.decision.nodes.trial import Trial

# Sums of prices are off in their last digits.
_EXACT = 1e-9


class Limit(NamedTuple):
    """What a node of each group adds, and how much may be added; of a cluster or, without one, of the fleet, and which
    limit it is.
    """

    each: FloatArray
    left: float
    cluster: str
    what: str
    most: float


class Bounding:
    """`possible` is by group how many nodes there may be; `coming` as `judging.coming` counts."""

    def __init__(
        self,
        seen: Seen,
        policy: Policy,
        catalogue: Catalogue,
        trial: Trial,
        coming: Sequence[int],
        possible: IntArray,
    ) -> None:
        self._limits = limits_of(seen, policy)
        takes = catalogue.kinds(np.zeros(len(seen.groups)), possible).most
        pods = catalogue.count(seen.pending, [item.count for item in seen.pending])
        trial.resize(coming)
        self._sums = _sums(catalogue, trial, takes, pods)
        # By kind: how many more have to be on new nodes than there is room for elsewhere.
        beyond = pods.copy()
        for item in seen.pending:
            kind = catalogue.kind_of(item)
            beyond[kind] = pods[kind] - min(trial.room_for(item), int(pods[kind]))
        some = (takes > 0).any(axis=1)
        self._takes, self._beyond = takes[some], beyond[some]

    def allows(self, vectors: IntArray) -> BoolArray:
        """Candidates by row, as new nodes by group."""
        return allowed_by(self._limits, vectors)

    def reached(self, sizes: IntArray, useful: BoolArray) -> list[Limit]:
        """The limits that allow no node more, beside these, of any group that is of use; none if one may grow."""
        more = sizes + np.eye(len(sizes), dtype=np.int64)[useful]
        if self.allows(more).any():
            return []
        return [limit for limit in self._limits if not allowed_by([limit], more).all()]

    def may_fit(self, vectors: IntArray) -> BoolArray:
        """Whether there is as much as pods ask for in all, for those that may go to some groups alone as well, and
        room for those of each kind if no others were there. Pods that no group takes do not count.
        """
        fits = (vectors @ self._takes.T >= self._beyond).all(axis=1)
        for capacity, lacking in self._sums:
            fits &= (vectors @ capacity >= lacking).all(axis=1)
        return np.asarray(fits)


def limits_of(seen: Seen, policy: Policy) -> list[Limit]:
    """All that apply to the fleet and to its clusters."""
    scopes = [("", policy.limits, seen.groups)]
    scopes += [
        (cluster.name, cluster.limits, tuple(group for group in seen.groups if group.cluster == cluster.name))
        for cluster in sorted(seen.clusters, key=lambda item: item.name)
    ]
    return [
        Limit(np.array([each.get(group.key, 0.0) for group in seen.groups], np.float64), most - there, name, what, most)
        for name, limits, groups in scopes
        for what, each, there, most in _sums_of(limits, groups)
    ]


def allowed_by(limits: Iterable[Limit], vectors: IntArray) -> BoolArray:
    """Candidates by row, as new nodes by group. What adds nothing is allowed though there is more already."""
    allowed = np.ones(len(vectors), np.bool_)
    for limit in limits:
        added = vectors @ limit.each
        allowed &= (added <= limit.left + _EXACT * max(1.0, abs(limit.left))) | (added == 0)
    return allowed


def _sums(catalogue: Catalogue, trial: Trial, takes: IntArray, pods: IntArray) -> list[tuple[IntArray, IntArray]]:
    """For pods that may go to some groups and no others: by group and resource what a node of these has, by resource
    what is lacking.
    """
    table = trial.table
    there = np.maximum(table.free[table.alive], 0).sum(axis=0)
    index = table.columns.index
    free = np.array([there[index[name]] if name in index else 0 for name in catalogue.names], np.int64)
    found = []
    for groups in np.unique(takes > 0, axis=0):
        inside = ~((takes > 0) & ~groups).any(axis=1) & (takes > 0).any(axis=1)
        asked = (catalogue.sizes * (pods * inside)[:, None]).sum(axis=0)
        found.append((catalogue.capacity * groups[:, None], asked - free))
    return found


def _sums_of(limits: Limits, groups: Sequence[NodeGroup]) -> Iterator[tuple[str, dict[GroupKey, float], float, float]]:
    """For each limit its name, what a node of each group adds, what there is, and how much there may be."""
    wanted: list[tuple[str, dict[GroupKey, float], float]] = []
    if limits.nodes is not None:
        wanted.append(("nodes", {group.key: 1.0 for group in groups}, float(limits.nodes)))
    if limits.price_per_hour is not None:
        wanted.append(("pricePerHour", {group.key: group.price for group in groups}, limits.price_per_hour))
    for name, most in sorted(limits.amounts.items()):
        amounts = {group.key: float(group.template.allocatable.get(name, 0)) for group in groups}
        wanted.append((name, amounts, float(most)))
    for what, each, limit in wanted:
        yield what, each, sum(each[group.key] * group.size for group in groups), limit


def effective_prices(groups: Sequence[NodeGroup]) -> FloatArray:
    """By group; where nothing has a price, a node costs as much as it has cpu."""
    prices: FloatArray = np.array([group.price for group in groups], np.float64)
    if prices.any():
        return prices
    return np.array([max(group.template.allocatable.get("cpu", 0), 1) / 1000 for group in groups], np.float64)
