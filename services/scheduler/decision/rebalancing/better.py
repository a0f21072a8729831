"""Whether a replica that runs would be better off in another cluster, and by how much.

The question is where it would be placed now, with its own room given back and counted among nobody: the argmin over
all nodes, as for every replica. If that is in its own cluster, it stays. Else its gain is what it costs where it is
less what it would cost there, both without it. So where it went, with its room given back again, is where it would be
placed: a move is never undone for its own sake.

Of pods that a cluster's own scheduler bound nobody knows which one goes when there are to be fewer: the one counts that
costs least. A node that its pod does not fit on any more says nothing: what is wrong there is the cluster's matter.

A place that cannot be paid is none, where the workload has a limit: see `placing.purse`.

Where terms share replicas out they come first: an earlier tier, or a cluster with a higher claim by weights, is better
whatever it costs, and one that they want less is worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.placing.division import ClusterShares
from services.scheduler.decision.placing.drafts import PodSetDraft
from services.scheduler.decision.placing.replicas import Replica
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.pods import SeenPod
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.table.arrays import BoolArray, FloatArray

# So many pods of one cluster are asked at most; those first whose nodes cost most whatever runs there.
_MOST_PODS = 200


@dataclass(frozen=True, slots=True)
class Better:
    """A replica, the pod that stands for it, and what it costs there and in the cluster where it would be placed."""

    replica: Replica
    pod: SeenPod
    before: float
    cluster: str
    cost: float
    by_terms: bool = False

    @property
    def gain(self) -> float:
        return self.before - self.cost

    @property
    def rank(self) -> tuple[bool, float, str, str]:
        """The best ones are least."""
        return not self.by_terms, -self.gain, self.replica.cluster, self.pod.name


@dataclass(frozen=True, slots=True)
class _Rest:
    """What the choice depends on but costs of nodes: how the other replicas are spread, how they are shared out, and
    the rows that can be paid beside them, None for all.
    """

    spread: FloatArray | None
    shares: ClusterShares | None
    paid: BoolArray | None


class Search:
    """For one pod set. `closed` are the indexes of clusters to which nothing moves; `asked` counts what was judged."""

    def __init__(self, fleet: Fleet, draft: PodSetDraft, minimum: float, closed: frozenset[int]) -> None:
        self._fleet = fleet
        self._draft = draft
        self._profile = draft.profile
        self._minimum = minimum
        self._closed = closed
        self._rests: dict[tuple[str, int, int], tuple[_Rest, float, bool]] = {}
        self.asked = 0

    def best(self, sources: Iterable[str]) -> Better | None:
        """The replica of these clusters that gains most; None where none gains enough."""
        found = [item for cluster in sources for item in self._of_cluster(cluster)]
        confirmed = (self._confirmed(item) for item in sorted(found, key=lambda item: item.rank))
        return next((item for item in confirmed if item is not None), None)

    def _of_cluster(self, cluster: str) -> list[Better]:
        """Candidates: by what others may have of the cluster's own room, which is looked at in the end."""
        bound = self._draft.plan.division is Division.NODES
        found: list[Better] = []
        for replica, pod in self._pods(cluster, bound=bound):
            better = self._candidate(replica, pod)
            if better is not None:
                found.append(better)
            elif not bound:
                return []
        return found if bound else [max(found, key=lambda item: item.rank)] if found else []

    def _pods(self, cluster: str, *, bound: bool) -> Iterator[tuple[Replica, SeenPod]]:
        """Each pod with the replica that it stands for; of equal ones on a node the first."""
        share = self._fleet.pods.find_share(ShareKey(self._draft.workload, self._draft.plan.name, cluster))
        mine = [replica for replica in self._draft.replicas if replica.cluster == cluster]
        pods = sorted(self._fleet.pods.pods_of(share), key=lambda pod: pod.name) if share is not None else []
        by_place = {(replica.ordinal, replica.node) if bound else replica.node: replica for replica in mine}
        chosen: dict[object, tuple[Replica, SeenPod]] = {}
        for pod in pods:
            node = pod.slot.name
            replica = by_place.get((pod.ordinal, node)) if bound else by_place.get(node, mine[-1])
            if replica is not None and pod.hold is not None and pod.ready and pod.slot.row >= 0:
                chosen.setdefault(replica.ordinal if bound else node, (replica, pod))
        if bound and len(chosen) > _MOST_PODS:
            costly = sorted(chosen.values(), key=lambda item: (-self._profile.base(item[1].slot.row), item[1].name))
            return iter(costly[:_MOST_PODS])
        return iter(chosen.values())

    def _candidate(self, replica: Replica, pod: SeenPod) -> Better | None:
        rest, cost, by_terms = self._elsewhere(replica)
        self.asked += 1
        if not isfinite(cost):
            return None
        before = self._before(pod, rest)
        if not isfinite(before) or not (by_terms or before - cost > self._minimum):
            return None
        return Better(replica, pod, before, "", cost, by_terms)

    def _before(self, pod: SeenPod, rest: _Rest) -> float:
        """What a replica costs where its pod is, with its own room given back."""
        assert pod.hold is not None
        self._fleet.slots.lift(pod.hold)
        before = self._cost(pod.slot.row, rest)
        self._fleet.slots.put_back(pod.hold)
        return before

    def _elsewhere(self, replica: Replica) -> tuple[_Rest, float, bool]:
        """What it costs in the best of all other clusters, and whether terms want it there; alike for all replicas of a
        zone.
        """
        slot = self._fleet.slots.get(replica.cluster, replica.node)
        domain = self._fleet.table.domain_of(slot.row) if slot is not None and slot.row >= 0 else -1
        priced = self._draft.purse is not None and slot is not None and slot.row >= 0
        key = (replica.cluster, domain, self._profile.prices().item(slot.row) if priced and slot is not None else 0)
        if key not in self._rests:
            rest, own = self._rest(replica), self._index(replica.cluster)
            row = self._best(rest, own, frozenset((own,)) if rest.shares is None else frozenset())
            cost, wanted = float("inf"), 0
            if row is not None and (taker := self._fleet.table.cluster_of(row)) != own:
                wanted = rest.shares.compare(taker, own) if rest.shares is not None else 0
                cost = self._cost(row, rest) if wanted <= 0 else cost
            self._rests[key] = rest, cost, wanted < 0
        return self._rests[key]

    def _confirmed(self, item: Better) -> Better | None:
        """The same, if the replica would not be placed in its own cluster after all, with its room given back."""
        hold, own = item.pod.hold, self._index(item.replica.cluster)
        assert hold is not None
        self._fleet.slots.lift(hold)
        try:
            rest = self._rest(item.replica)
            row = self._best(rest, own, frozenset())
            if row is None or (taker := self._fleet.table.cluster_of(row)) == own:
                return None
            wanted = rest.shares.compare(taker, own) if rest.shares is not None else 0
            cost = self._cost(row, rest)
        finally:
            self._fleet.slots.put_back(hold)
        cluster = self._fleet.slots.by_row(row).cluster
        better = Better(item.replica, item.pod, item.before, cluster, cost, wanted < 0)
        return better if wanted < 0 or (not wanted and better.gain > self._minimum) else None

    def _best(self, rest: _Rest, own: int, also: frozenset[int]) -> int | None:
        # To its own cluster nothing moves that is there already, whatever left it.
        avoid = sorted(self._draft.avoid | (self._closed - {own}) | also)
        if rest.shares is not None:
            return rest.shares.best(rest.spread, avoid, rest.paid)
        if rest.paid is not None:
            return self._profile.best_within(rest.paid, rest.spread, avoid)
        return self._profile.best(rest.spread, avoid)

    def _rest(self, replica: Replica) -> _Rest:
        left = self._draft.left_without(replica)
        return _Rest(*self._draft.without(replica), None if left is None else self._profile.prices() <= left)

    def _cost(self, row: int, rest: _Rest) -> float:
        table, cost = self._fleet.table, self._profile.cost(row)
        if rest.spread is not None:
            cost += float(rest.spread[table.domain_of(row)])
        return cost + (rest.shares.preference_of(table.cluster_of(row)) if rest.shares is not None else 0.0)

    def _index(self, cluster: str) -> int:
        return self._fleet.clusters.ensure(cluster).index
