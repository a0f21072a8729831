"""Which clusters are heard, which are silent, and which left the fleet.

A cluster is silent when its last heartbeat is older than three of its intervals, or when none was ever heard. What
was observed in a silent cluster may no longer be true, so none of it counts.

A cluster has left when its watcher said so, or when its heartbeat has a tombstone: compaction may leave no more of what
it said. One that was never heard is not said to have left, since that cannot be known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from services.status.decision.consistency import Consistency, Drift, Inventory, PlanOf, drift_of
from services.status.decision.plan import Plan
from services.status.decision.values import Condition
from shared.events.v1.objects import ClusterObserved

SILENCE_INTERVALS = 3


@dataclass(slots=True)
class ClusterState:
    """One cluster as last heard; `heard_at` by the clock of this service."""

    observed: ClusterObserved
    heard_at: int
    silent: bool = False
    conditions: tuple[Condition, ...] = ()

    @property
    def ready(self) -> bool:
        return self.observed.ready and not self.silent

    def overdue(self, now_ms: int) -> bool:
        return now_ms - self.heard_at > SILENCE_INTERVALS * self.observed.interval_ms


class Roster:
    """All clusters that were ever heard and did not leave."""

    def __init__(self) -> None:
        self._clusters: dict[str, ClusterState] = {}
        self._left: set[str] = set()
        self._consistency: dict[str, Consistency] = {}
        # By workload, the clusters that hold something else of it than was asked.
        self._drifting: dict[str, set[str]] = {}

    def get(self, cluster: str) -> ClusterState | None:
        return self._clusters.get(cluster)

    def hear(self, observed: ClusterObserved, at_ms: int) -> bool:
        """Notes a heartbeat. Returns whether the cluster's readiness changed by it."""
        self._left.discard(observed.cluster)
        state = self._clusters.get(observed.cluster)
        if state is None:
            self._clusters[observed.cluster] = ClusterState(observed, at_ms)
            return True
        before = (state.silent, state.observed.ready, state.observed.reason, state.observed.message)
        state.observed, state.heard_at, state.silent = observed, max(at_ms, state.heard_at), False
        return before != (False, observed.ready, observed.reason, observed.message)

    def leave(self, cluster: str) -> bool:
        """The cluster is no member any more. Returns whether that is news."""
        news = cluster not in self._left
        self._left.add(cluster)
        self._clusters.pop(cluster, None)
        self._note_drift(cluster, self.consistency(cluster).drifting, {})
        del self._consistency[cluster]
        return news

    def left(self, cluster: str) -> bool:
        return cluster in self._left

    def fall_silent(self, now_ms: int) -> Iterator[str]:
        """Clusters that are silent from now on."""
        for cluster, state in self._clusters.items():
            if not state.silent and state.overdue(now_ms):
                state.silent = True
                yield cluster

    def silent(self, cluster: str) -> bool:
        state = self._clusters.get(cluster)
        return state is None or state.silent

    def names(self) -> tuple[str, ...]:
        return tuple(self._clusters)

    def consistency(self, cluster: str) -> Consistency:
        known = self._consistency.get(cluster)
        if known is None:
            known = self._consistency[cluster] = Consistency()
        return known

    def take_inventory(
        self, cluster: str, inventory: Inventory | None, asked: AbstractSet[str], plan_of: PlanOf
    ) -> set[str]:
        """Compares what a cluster holds with what was asked. Returns the workloads of which something changed by it."""
        known = self.consistency(cluster)
        before = known.drifting
        changed = known.take(inventory, asked, plan_of)
        self._note_drift(cluster, before, known.drifting)
        return changed

    def drift_of(self, key: str, plan: Plan) -> Iterator[tuple[str, Drift]]:
        """The clusters that hold something else of a workload than was asked, and how."""
        asked = {*plan.clusters, *plan.withdrawn}
        for cluster in asked.union(self._drifting.get(key, ())):
            inventory = self.consistency(cluster).inventory
            if (drift := drift_of(key, plan, inventory, asked=cluster in asked)) is not None:
                yield cluster, drift

    def drifts(self) -> Iterator[tuple[str, Counter[Drift]]]:
        """By cluster: how many workloads it does not hold as was asked, and how."""
        return ((cluster, self.consistency(cluster).counts()) for cluster in self._clusters)

    def _note_drift(self, cluster: str, before: Iterable[str], after: Iterable[str]) -> None:
        for key in before:
            self._drifting[key].discard(cluster)
            if not self._drifting[key]:
                del self._drifting[key]
        for key in after:
            self._drifting.setdefault(key, set()).add(cluster)

    def heard(self) -> Iterator[tuple[str, ClusterState]]:
        return iter(self._clusters.items())
