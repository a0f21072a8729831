"""Disruption budgets: how many ready pods may still be taken from service. A budget is kept: what would break it stays.

Counted is what is ready now, by what was seen of pods in clusters that are heard, less the pods that are about to go.
A pod that is not ready may go only while the budget has as many ready ones as it wants, as the eviction API does by
default (`IfHealthyBudget`).

So are the PodDisruptionBudgets of the clusters: by what their controllers say is allowed, less the pods that are about
to go, of which these may not know yet. A pod counts for every budget that selects it.

Source: k8s.io/kubernetes pkg/registry/core/pod/storage/eviction.go, pkg/controller/disruption, and
pkg/scheduler/framework/plugins/defaultpreemption (`filterPodsWithPDBViolation`), which breaks budgets as a last resort:
here they are never broken.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.decided.workloads import Workloads
from services.scheduler.decision.preempting.units import Unit, ordinals_of, plan_of
from services.scheduler.decision.seen.disruptions import SeenBudget
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.pods import SeenPod
from services.scheduler.decision.seen.reservations import ShareKey, ShareReservations

# Which budget: a pod set's own, by workload and name; or a cluster's, namespace and name.
Key = tuple[str, str] | tuple[str, str, str]


class Budgets:
    """For decisions that are in the making, until `begin`."""

    def __init__(self, fleet: Fleet, workloads: Workloads) -> None:
        self._fleet = fleet
        self._workloads = workloads
        self._allowed: dict[Key, int] = {}
        # Those of clusters that were looked at.
        self._seen: dict[Key, SeenBudget] = {}
        # Shares with pods that are about to go, by cluster and namespace; None until somebody asks.
        self._crowded: dict[tuple[str, str], list[ShareReservations]] | None = None
        self._spent: Counter[Key] = Counter()

    def begin(self) -> None:
        self._allowed.clear()
        self._seen.clear()
        self._crowded = None
        self._spent.clear()

    def violating(self, units: Iterable[Unit]) -> set[Unit]:
        """Those that would break a budget if they gave way together, one after the other."""
        found: set[Unit] = set()
        used: Counter[Key] = Counter()
        for unit in units:
            keys = list(self._keys(unit))
            if any(self._breaks(unit, self._left(key) - used[key]) for key in keys):
                found.add(unit)
            else:
                used.update(dict.fromkeys(keys, unit.ready))
        return found

    def allow_any(self, pods: Iterable[SeenPod]) -> bool:
        """Whether any one of these pods may go, whichever it is, by the budgets of its cluster."""
        for pod in pods:
            found: dict[Key, SeenBudget] = {budget.key: budget for budget in self._about(pod)}
            self._seen.update(found)
            if any(self._left(key) < 1 for key in found):
                return False
        return True

    def spend(self, units: Iterable[Unit]) -> None:
        """They give way."""
        for unit in units:
            self._spent.update(dict.fromkeys(self._keys(unit), unit.ready))

    def _breaks(self, unit: Unit, left: int) -> bool:
        return unit.ready > left if unit.ready else left < 0

    def _keys(self, unit: Unit) -> Iterator[Key]:
        key = unit.share.key
        record = self._workloads.live(key.workload)
        plan = plan_of(record, key.pod_set) if record is not None else None
        if plan is not None and plan.budget is not None:
            yield key.workload, key.pod_set
        found: dict[Key, SeenBudget] = {}
        for hold in unit.holds:
            if hold.pod is not None:
                found.update((budget.key, budget) for budget in self._about(hold.pod))
        self._seen.update(found)
        yield from found

    def _about(self, pod: SeenPod) -> Iterator[SeenBudget]:
        return self._fleet.budgets.about(pod.slot.cluster, pod.facts.namespace, pod.facts.labels)

    def _left(self, key: Key) -> int:
        if key not in self._allowed:
            seen = self._seen.get(key)
            if seen is not None:
                self._allowed[key] = seen.left - self._about_to_go(seen)
            else:
                self._allowed[key] = self._may_go(key[0], key[1])
        return self._allowed[key] - self._spent[key]

    def _about_to_go(self, budget: SeenBudget) -> int:
        """How many pods stand for no replica any more, of those that a cluster's budget selects."""
        if self._crowded is None:
            self._crowded = defaultdict(list)
            for share in self._fleet.pods.crowded():
                self._crowded[share.key.cluster, share.key.workload.partition("/")[0]].append(share)
        count = 0
        for share in self._crowded.get((budget.cluster, budget.namespace), ()):
            pods = (pod for pod in self._fleet.pods.pods_of(share) if pod.hold is not None)
            selected = sum(budget.selector.matches(pod.facts.labels) for pod in pods)
            count += min(share.seen - share.replicas, selected)
        return count

    def _may_go(self, workload: str, pod_set: str) -> int:
        """How many ready pods there are beyond what a pod set's own budget wants."""
        record = self._workloads.live(workload)
        plan = plan_of(record, pod_set) if record is not None else None
        if record is None or plan is None or plan.budget is None:
            return 0
        ready = sum(self._ready(record, ShareKey(workload, pod_set, cluster)) for cluster in record.clusters)
        return ready - plan.budget.wanted(plan.desired)

    def _ready(self, record: WorkloadRecord, where: ShareKey) -> int:
        """The ready pods of a share that stay; where it is not known which do, if the worst of them go."""
        cluster, share = self._fleet.clusters.get(where.cluster), self._fleet.pods.find_share(where)
        if cluster is None or not cluster.heard or share is None:
            return 0
        if share.bound:
            ordinals = ordinals_of(record, share)
            pods = [pod for pod in self._fleet.pods.pods_of(share) if pod.ready]
            return sum(any(ordinals[at] == pod.ordinal for at in share.on(pod.slot)[0]) for pod in pods)
        going = max(share.seen - share.replicas, 0)
        return min(max(share.ready - going, 0), share.replicas)
