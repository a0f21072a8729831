"""Out of clusters that are lost, tainted or draining: reserve, start, confirm ready, only then remove.

A replica that has to go is replaced first: another one is placed elsewhere, with its room, and the old one *leaves*.
It stays in its share, and its cluster's command goes on asking for it, until as many replicas are ready as count. What
finds no room elsewhere does not leave, however long it lasts. That a replica leaves is part of the decision
(`ClusterShare.leaving`), so whoever folds the journal goes on where another stopped.

The rule, for each pod set: of its leaving replicas as many stay as there are replicas that count and are not ready. Of
a cluster that is heard, as many are ready as pods of it are; of one that is left, as many as were when it was last
heard; of any other, none: it may be the next to be left. So nothing is removed that nothing else stands for. What was
ready in a cluster that is not heard is removed when all is ready, as the cluster would not know of it before.

A cluster that is well again for a while gets back what waits to leave it, in place of replacements that are not
ready; of those that are ready the old one goes. What is least change comes first, as far as the workload's limit pays
for it: what leaves costs nothing, and others may have had that money.

Where a workload asks for it, what had to leave a cluster is counted as `away`, and goes back the same way when the
cluster is well, and has confirmed that the old replicas are gone: started there first, and then removed elsewhere.

What moves to a better place (`rebalancing`) leaves in the same way; it is not taken back before its time is over.

How fast is a matter of the pace: so many replacements a second, so many under way at once, of each cluster and of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Literal

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.placing.drafts import PodSetDraft
from services.scheduler.decision.placing.replicas import Budget, Replica, by_cluster
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.troubles import Troubles
from shared.events.v1.decisions import Rebalanced


class Pace:
    """How many replacements may begin now. `under_way` are those that are not ready, by the cluster that is left."""

    def __init__(self, config: SchedulerConfig) -> None:
        self._config = config
        self._tokens = 0.0
        self._filled_at: int | None = None
        self._under_way: dict[tuple[str, str], Counter[str]] = {}

    def fill(self, now_ms: int) -> None:
        rate = self._config.evacuations_per_s
        # What nobody needed for long is no licence for a burst.
        gained = rate * (now_ms - self._filled_at) / 1000 if self._filled_at is not None else 1.0
        self._tokens = min(self._tokens + max(gained, 0.0), max(rate, 1.0)) if rate else 0.0
        self._filled_at = now_ms

    def allows(self, cluster: str) -> int:
        """How many more may begin to leave a cluster."""
        config = self._config
        under_way = sum(counts[cluster] for counts in self._under_way.values())
        all_of_them = sum(counts.total() for counts in self._under_way.values())
        left = min(config.cluster_evacuations_at_once - under_way, config.evacuations_at_once - all_of_them)
        return max(min(int(self._tokens), left), 0)

    @property
    def allows_any(self) -> bool:
        return self._tokens >= 1

    def spend(self, count: int) -> None:
        self._tokens -= count

    def keep(self, workloads: AbstractSet[str]) -> None:
        """Nothing is under way of any other."""
        self._under_way = {key: counts for key, counts in self._under_way.items() if key[0] in workloads}

    def note(self, pod_set: tuple[str, str], under_way: Counter[str]) -> None:
        """What is under way of a pod set of a workload now."""
        if under_way.total():
            self._under_way[pod_set] = under_way
        else:
            self._under_way.pop(pod_set, None)


class Evacuation:
    """`no_room`: something that had to leave found no room elsewhere."""

    def __init__(self, fleet: Fleet, troubles: Troubles, pace: Pace) -> None:
        self._fleet = fleet
        self._troubles = troubles
        self._pace = pace
        self._config = fleet.config
        self.no_room = False

    def settle(self, workload: str, draft: PodSetDraft, budget: Budget, withdrawn: Collection[str]) -> None:
        """What may go goes, what may stay stays, and what has to leave is replaced, as far as the pace allows.

        From the clusters in `withdrawn` the workload has yet to be gone.
        """
        if not can_leave(draft.plan):
            return
        if draft.leaving:
            self._let_go(workload, draft)
            self._note_move(draft, "moved")
            homes = [home for home in draft.returning if home not in self._troubles.troubled]
            draft.returning = tuple(homes) if draft.leaving else ()
            if not homes:
                self._take_back(workload, draft)
        self._replace(workload, draft, budget)
        self._note_move(draft, "failed")
        self._return(draft, budget, withdrawn)
        self._pace.note((workload, draft.plan.name), self._waiting(workload, draft))

    def _note_move(self, draft: PodSetDraft, state: Literal["moved", "failed"]) -> None:
        """What became of a move to a better place, if it is over."""
        moved = draft.rebalanced
        if moved is None or not is_moving(moved):
            return
        if not any(replica.cluster == moved.from_cluster for replica in draft.leaving):
            draft.rebalanced = moved.model_copy(update={"state": state})

    def _may_move(self, draft: PodSetDraft, replica: Replica) -> bool:
        """Whether a replica leaves for a better place, which has some time to become ready."""
        moved = move_from(draft, replica.cluster)
        return moved is not None and self._troubles.now_ms - moved.at < self._config.rebalance_patience_ms

    def must_vacate(self, drafts: Iterable[PodSetDraft], released: Callable[[str], bool]) -> str:
        """The cluster that a workload which is in one at a time has to leave now, and can; empty if there is none.

        It can leave one that says when it is gone, or of which it is known that it runs nothing of it (`released`).
        """
        for draft in drafts:
            if not can_leave(draft.plan):
                continue
            for name in self.sources(draft):
                if (self.can_vacate(name) or released(name)) and self._pace.allows(name):
                    return name
        return ""

    def can_vacate(self, name: str) -> bool:
        cluster = self._fleet.clusters.get(name)
        return cluster is not None and (cluster.heard or cluster.runs_nothing)

    def vacate(self, drafts: Iterable[PodSetDraft]) -> None:
        """What is given up counts for the pace."""
        self._pace.spend(sum(len(draft.replicas) for draft in drafts if can_leave(draft.plan)))

    def sources(self, draft: PodSetDraft) -> list[str]:
        """The clusters that the pod set has to leave, and has not left."""
        present = {replica.cluster for replica in draft.replicas}
        return sorted(cluster for cluster in present & self._troubles.troubled if self._is_due(draft, cluster))

    def _is_due(self, draft: PodSetDraft, cluster: str) -> bool:
        return self._troubles.is_due(cluster, draft.plan.demand.shape.tolerations)

    def _unready(self, workload: str, draft: PodSetDraft) -> Counter[str]:
        """By cluster, the replicas that count and are not ready."""
        leaving = Counter(replica.cluster for replica in draft.leaving)
        found: Counter[str] = Counter()
        for cluster, count in Counter(replica.cluster for replica in draft.replicas).items():
            ready = self._ready(ShareKey(workload, draft.plan.name, cluster), draft, count + leaving[cluster])
            if (unready := count - max(min(count, ready - leaving[cluster]), 0)) > 0:
                found[cluster] = unready
        return found

    def _ready(self, share: ShareKey, draft: PodSetDraft, count: int) -> int:
        cluster = self._fleet.clusters.get(share.cluster)
        heard = cluster is not None and cluster.heard
        if not heard and not self._is_due(draft, share.cluster):
            return 0
        if self._fleet.has_finished(share, draft.plan.division):
            return count
        known = self._fleet.pods.find_share(share)
        return known.ready if known is not None else 0

    def _let_go(self, workload: str, draft: PodSetDraft) -> None:
        needed = self._unready(workload, draft).total()
        surplus = max(len(draft.leaving) - needed, 0)
        if draft.plan.division is Division.TOGETHER and needed:
            return
        # First what was not ready, then what is in clusters that have to be left: what is in others may stay after all.
        places = {replica: place for place, replica in enumerate(draft.leaving)}
        order: list[tuple[bool, bool, int]] = []
        for cluster, replicas in by_cluster(draft.leaving).items():
            known = self._fleet.pods.find_share(ShareKey(workload, draft.plan.name, cluster))
            ready, due = known.ready if known is not None else 0, self._is_due(draft, cluster)
            order += [(number < ready, not due, -places[item]) for number, item in enumerate(replicas)]
        going = sorted(order)[:surplus]
        if needed:
            # A lost cluster reads no command: what was ready there goes when all is ready elsewhere. Each decision is
            # one more command to the clusters that are well, and they are busy starting what replaces it.
            going = [item for item in going if not item[0] or self._is_heard(draft.leaving[-item[2]])]
        gone = {-index for _, _, index in going}
        if draft.plan.failback:
            left = [draft.leaving[at].cluster for at in gone]
            draft.away = Counter(draft.away) + Counter(name for name in left if self._had_to_leave(draft, name))
        draft.leaving = [replica for index, replica in enumerate(draft.leaving) if index not in gone]

    def _had_to_leave(self, draft: PodSetDraft, cluster: str) -> bool:
        """Whether what leaves a cluster did not want to: unless it returns to another, or moves to a better place. Why
        it began to leave a new leader need not know yet.
        """
        return self._is_due(draft, cluster) or not (draft.returning or move_from(draft, cluster))

    def _take_back(self, workload: str, draft: PodSetDraft) -> None:
        """Who waits to leave a cluster that is well stays, in place of one that is not ready elsewhere."""
        staying = [item for item in draft.leaving if self._troubles.is_stable(item.cluster) and self._is_heard(item)]
        staying = [item for item in staying if not self._may_move(draft, item)]
        if not staying:
            return
        if draft.plan.division is Division.TOGETHER:
            whole = [replica for replica in staying if replica.cluster == staying[0].cluster]
            if draft.can_pay(whole, instead_of=draft.replicas):
                draft.replicas, draft.leaving = whole, []
            return
        # Of a cluster that is not heard nobody knows what is ready there: what it has may only leave.
        homes = {replica.cluster for replica in staying}
        others = {item.cluster for item in draft.replicas if self._is_heard(item)} - homes
        unready = Counter({name: n for name, n in self._unready(workload, draft).items() if name in others})
        for replica in staying:
            if not unready.total():
                return
            cluster = max(sorted(unready), key=lambda name: unready[name])
            other = self._last(draft, cluster)
            if not draft.can_pay([replica], instead_of=[other]):
                continue
            unready[cluster] -= 1
            draft.replicas.remove(other)
            draft.leaving.remove(replica)
            draft.replicas.append(replica)

    def _last(self, draft: PodSetDraft, cluster: str) -> Replica:
        """One of a cluster's replicas: the last that was never seen, or else the last."""
        present = [replica for replica in draft.replicas if replica.cluster == cluster]
        return next((item for item in reversed(present) if draft.is_unseen(item)), present[-1])

    def _replace(self, workload: str, draft: PodSetDraft, budget: Budget) -> None:
        for cluster in self.sources(draft):
            self._exchange(draft, cluster)
            leaving = by_cluster(draft.replicas).get(cluster, [])
            most = min(self._pace.allows(cluster), budget.left)
            if most <= 0 or not leaving or draft.may_grow:
                continue
            if draft.plan.division is not Division.TOGETHER:
                leaving = leaving[-most:]
            elif self._fleet.has_finished(ShareKey(workload, draft.plan.name, cluster), draft.plan.division):
                continue
            placed = draft.replace(leaving, budget)
            self.no_room = self.no_room or not placed
            self._pace.spend(placed)

    def _return(self, draft: PodSetDraft, budget: Budget, withdrawn: Collection[str]) -> None:
        """What had to leave a cluster goes back, when that was well for a while and nothing else is under way."""
        if self.sources(draft) or draft.may_grow or (draft.leaving and not draft.returning):
            return
        for home in self.homes(draft.away, withdrawn):
            guests = _spread_out(item for item in draft.replicas if item.cluster != home)
            if draft.plan.division is not Division.TOGETHER:
                pace = min(map(self._pace.allows, by_cluster(guests)), default=0)
                most = min(draft.away[home], pace, budget.left)
                guests = guests[len(guests) - max(most, 0) :]
            if not guests or not self._pace.allows_any:
                continue
            placed = draft.replace(guests, budget, home)
            self.no_room = self.no_room or not placed
            self._pace.spend(placed)
            draft.away[home] -= placed
            if placed:
                draft.returning = tuple(sorted({*draft.returning, home}))

    def homes(self, away: Mapping[str, int], withdrawn: Collection[str]) -> list[str]:
        """Those of the clusters to which replicas can return now."""
        names = (name for name in sorted(away) if away[name] > 0 and name not in withdrawn)
        return [name for name in names if self._troubles.is_stable(name)]

    def _exchange(self, draft: PodSetDraft, cluster: str) -> None:
        """Who waits to leave a cluster that is well again takes the place of one that has to leave another."""
        if draft.plan.division is Division.TOGETHER:
            return
        well = [item for item in draft.leaving if self._is_heard(item) and not self._is_due(draft, item.cluster)]
        for replica in well:
            present = [item for item in draft.replicas if item.cluster == cluster]
            if not present:
                return
            if not draft.can_pay([replica], instead_of=present[-1:]):
                continue
            draft.leaving.remove(replica)
            draft.leaving.insert(0, present[-1])
            draft.replicas.remove(present[-1])
            draft.replicas.append(replica)

    def _waiting(self, workload: str, draft: PodSetDraft) -> Counter[str]:
        """By cluster, the leaving replicas whose replacements are not ready.

        What has yet to leave does not count, ready or not: those that never were would hold up all others.
        """
        if not draft.leaving:
            return Counter()
        unready = self._unready(workload, draft)
        count = sum(number for name, number in unready.items() if not self._is_due(draft, name))
        return Counter(replica.cluster for replica in draft.leaving[:count])

    def _is_heard(self, replica: Replica) -> bool:
        cluster = self._fleet.clusters.get(replica.cluster)
        return cluster is not None and cluster.heard


def _spread_out(replicas: Iterable[Replica]) -> list[Replica]:
    """In the order, from the end, in which they are to be given up: of the cluster that has most of them."""
    groups, order = by_cluster(replicas), []
    while groups:
        cluster = max(sorted(groups), key=lambda name: len(groups[name]))
        order.append(groups[cluster].pop())
        if not groups[cluster]:
            del groups[cluster]
    return order[::-1]


def move_from(draft: PodSetDraft, cluster: str) -> Rebalanced | None:
    """The move to a better place that is under way out of a cluster."""
    moved = draft.rebalanced
    return moved if moved is not None and is_moving(moved) and moved.from_cluster == cluster else None


def is_moving(moved: Rebalanced) -> bool:
    """Whether a replica that moves to a better place is still where it was as well."""
    return moved.state == "moving"


def can_leave(plan: PodSetPlan) -> bool:
    """Whether a pod set can be replaced elsewhere, and seen to be: it has pods, and is not everywhere already."""
    return plan.holds_room and plan.division is not Division.EVERYWHERE and not plan.duplicated
