"""All workloads, pods and clusters that are known, and the indices between them. State only: nothing is told here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from msgspec import structs

from services.status.decision.assess import Fault
from services.status.decision.clusters import Roster
from services.status.decision.conditions import transitioned
from services.status.decision.consistency import Inventory
from services.status.decision.facts import OwnedFacts, PodFacts, Tally
from services.status.decision.plan import Plan
from services.status.decision.tracked import Tracked
from shared.events.v1.read_model import ClusterView
from shared.events.v1.status import Condition
from shared.model.identities import WorkloadKey

_NOBODY: Final[frozenset[str]] = frozenset()


class Fleet:
    def __init__(self) -> None:
        self.roster = Roster()
        self._workloads: dict[str, Tracked] = {}
        self._pods: dict[str, PodFacts] = {}
        self._owned: dict[str, OwnedFacts] = {}
        self._in_cluster: dict[str, set[str]] = {}
        # With those that a cluster is to withdraw.
        self._asked: dict[str, set[str]] = {}
        # Those with pods in a cluster, and of how many pod sets.
        self._seen: dict[str, Counter[str]] = {}

    def get(self, key: str) -> Tracked | None:
        return self._workloads.get(key)

    def track(self, key: str) -> Tracked:
        """The workload of a key, from now on known. Raises ValueError unless the key is namespace/name."""
        tracked = self._workloads.get(key)
        if tracked is None:
            parsed = WorkloadKey.parse(key)
            tracked = self._workloads[key] = Tracked(key, parsed.namespace, parsed.name)
        return tracked

    def drop_if_empty(self, tracked: Tracked) -> None:
        if tracked.empty:
            self._workloads.pop(tracked.key, None)

    def all(self) -> tuple[Tracked, ...]:
        return tuple(self._workloads.values())

    def in_cluster(self, cluster: str) -> Iterator[Tracked]:
        """Workloads with a share in a cluster, by key."""
        return (self._workloads[key] for key in sorted(self._in_cluster.get(cluster, ())))

    def concerning(self, cluster: str) -> Iterator[Tracked]:
        """Workloads whose status speaks of a cluster, by key: a share, a withdrawal, or pods that are left there."""
        return (self._workloads[key] for key in sorted({*self._asked.get(cluster, ()), *self._seen.get(cluster, ())}))

    def adopt(self, tracked: Tracked, plan: Plan) -> None:
        self._index(tracked.key, tracked.plan, plan)
        tracked.adopt(plan)

    def forget_plan(self, tracked: Tracked) -> None:
        self._index(tracked.key, tracked.plan, None)
        tracked.forget_plan()

    def pod(self, key: str) -> PodFacts | None:
        return self._pods.get(key)

    def replace_pod(self, key: str, cluster: str, pod: PodFacts | None) -> Iterator[Tracked]:
        """Counts a pod anew. Yields the workloads that it belonged and belongs to."""
        before = self._pods.pop(key, None)
        if before is not None:
            tracked = self._workloads[before.workload]
            place = (cluster, before.pod_set)
            tally = tracked.tallies[place]
            tally.count(before, -1)
            if not tally.pods:
                del tracked.tallies[place]
                self._bump_seen(place[0], before.workload, -1)
            yield tracked
        if pod is not None:
            self._pods[key] = pod
            tracked = self.track(pod.workload)
            place = (cluster, pod.pod_set)
            if place not in tracked.tallies:
                tracked.tallies[place] = Tally()
                self._bump_seen(cluster, pod.workload, 1)
            tracked.tallies[place].count(pod, 1)
            if before is None or before.workload != pod.workload:
                yield tracked

    def owned(self, key: str) -> OwnedFacts | None:
        return self._owned.get(key)

    def replace_owned(self, key: str, cluster: str, owned: OwnedFacts | None) -> Iterator[Tracked]:
        before = self._owned.pop(key, None)
        if before is not None:
            tracked = self._workloads[before.workload]
            tracked.owned.pop(key, None)
            yield tracked
        if owned is not None:
            self._owned[key] = owned
            tracked = self.track(owned.workload)
            tracked.owned[key] = (cluster, owned)
            if before is None or before.workload != owned.workload:
                yield tracked

    def take_inventory(self, cluster: str, inventory: Inventory | None) -> set[str]:
        """Compares what a cluster holds with what was asked. Returns the workloads of which something changed by it."""
        asked = self._asked.get(cluster, _NOBODY)
        return self.roster.take_inventory(cluster, inventory, asked, self._plan_of)

    def stale(self) -> int:
        """Workloads with a share in a cluster that is silent, or no part of the fleet any more."""
        unheard = [keys for cluster, keys in self._in_cluster.items() if keys and self.roster.silent(cluster)]
        return len(set().union(*unheard))

    def _plan_of(self, key: str) -> Plan | None:
        tracked = self._workloads.get(key)
        return tracked.plan if tracked is not None else None

    def view(self, cluster: str, now_ms: int) -> ClusterView | None:
        """A cluster for the read model; None if it is not known."""
        state = self.roster.get(cluster)
        if state is None:
            return None
        found = self.roster.consistency(cluster).findings(state.observed, silent=state.silent, now_ms=now_ms)
        findings = ((kind, truth, Fault(reason, message)) for kind, truth, reason, message in found)
        state.conditions = transitioned(findings, state.conditions, now_ms)
        plans = [(tracked, tracked.plan) for tracked in self.in_cluster(cluster) if tracked.plan]
        tallies = [tally for tracked, _ in plans for (where, _), tally in tracked.tallies.items() if where == cluster]
        return ClusterView(
            cluster=cluster,
            observed=state.observed,
            heard_at=state.heard_at,
            silent=state.silent,
            ready=state.ready,
            reason="ClusterSilent" if state.silent else state.observed.reason,
            message="the watcher's heartbeats are missing" if state.silent else state.observed.message,
            workloads=len(plans),
            replicas=sum(share.replicas for _, plan in plans for _, share in plan.shares_in(cluster)),
            pods=sum(tally.pods for tally in tallies),
            pods_running=sum(tally.running for tally in tallies),
            pods_ready=sum(tally.ready for tally in tallies),
            conditions=tuple(Condition(**structs.asdict(condition)) for condition in state.conditions),
        )

    def _bump_seen(self, cluster: str, key: str, step: int) -> None:
        seen = self._seen.setdefault(cluster, Counter())
        seen[key] += step
        if not seen[key]:
            del seen[key]

    def _index(self, key: str, before: Plan | None, after: Plan | None) -> None:
        if before is not None:
            for cluster in before.clusters:
                self._in_cluster[cluster].discard(key)
            for cluster in (*before.clusters, *before.withdrawn):
                self._asked[cluster].discard(key)
        if after is not None:
            for cluster in after.clusters:
                self._in_cluster.setdefault(cluster, set()).add(key)
            for cluster in (*after.clusters, *after.withdrawn):
                self._asked.setdefault(cluster, set()).add(key)
