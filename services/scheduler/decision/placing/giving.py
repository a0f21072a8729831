"""What a pod set keeps of its replicas, what it replaces, and what it gives up.

A replica that is placed stays where it is unless it must move. Scaling down gives up replicas that were never seen
first; then, where Flotilla binds, the highest ordinals, and else, one after the other, the last placed of the cluster
where a replica costs most (price, measured load, and spread). A new shape or new terms move only those replicas that no
longer pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

import numpy as np

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.placing.division import ClusterShares
from services.scheduler.decision.placing.gaining import UNKNOWN, Gaining
from services.scheduler.decision.placing.purse import Purse
from services.scheduler.decision.placing.replicas import Budget, Replica, by_cluster
from services.scheduler.decision.seen.pods import SeenPod
from services.scheduler.decision.seen.slots import NO_ROW
from services.scheduler.decision.table.arrays import FloatArray


class Giving(Gaining):
    """See the module."""

    def keep_within_queue(self) -> None:
        """Gives up what is beyond the limit of the queue, since a user changed the queue or what each replica takes."""
        before = len(self.replicas)
        kept = max(0, self.allowance.most(self.plan)) if self.allowance is not None else before
        if kept < before and self.plan.division is Division.TOGETHER:
            self.replicas = []
        elif kept < before:
            self._give_up(before - kept)
        self._note_change(before)

    def refit(self) -> None:
        """Keeps the replicas that pass the filters of the present plan, in the room that they have now."""
        shares, leaving = by_cluster([*self.replicas, *self.leaving]), set(self.leaving)
        fitting: list[Replica] = []
        for cluster, replicas in shares.items():
            known = self._fleet.clusters.get(cluster)
            if known is not None and self._profile.allows(known):
                fitting += self._refit_share(cluster, replicas)
        before = len(self.replicas)
        self.replicas = [replica for replica in fitting if replica not in leaving]
        self.leaving = [replica for replica in fitting if replica in leaving]
        self._note_change(before)

    def _refit_share(self, cluster: str, replicas: list[Replica]) -> Iterator[Replica]:
        share = self._fleet.pods.find_share(self._share_key(cluster))
        if share is None:
            yield from (replica for replica in replicas if not replica.node or self.passes(replica))
            return
        slots, request = self._fleet.slots, self._profile.request
        holds = [share.hold_at(replica.position) for replica in replicas]
        for hold in holds:
            # First all give up their room, so that as many as possible find it again.
            if hold is not None:
                slots.resize(hold, self._fleet.requests.nothing)
                slots.know(hold, None)
        pods = [pod for pod in self._fleet.pods.pods_of(share) if pod.hold is not None]
        for replica, hold in zip(replicas, holds, strict=True):
            pod = None if hold is not None else _take_pod(pods, replica.node)
            if hold is not None:
                fits = slots.try_resize(hold, request, self._fits, self._facts)
            elif pod is not None and pod.hold is not None:
                replica.node = pod.slot.name
                fits = slots.try_resize(pod.hold, self._fleet.requests.larger(pod.request, request), self._fits)
            else:
                fits = not replica.node or self.passes(replica)
            if fits:
                yield replica

    def conform(self) -> None:
        """Other terms share replicas out: gives up those that these exclude, and lets `settle` move what is better off
        elsewhere, one by one, as long as that makes a difference. So no more move than the terms need.
        """
        shares = self._cluster_shares()
        if shares is not None:
            surplus, before = shares.surplus_clusters(), len(self.replicas)
            self.drop(lambda replica: self._index_of(replica) in surplus)
            self._rearranging = self.plan.division is not Division.TOGETHER
            self._note_change(before)

    def _note_change(self, before: int) -> None:
        """A user's change left fewer replicas than these: a gang is whole with what is asked now, or starts anew."""
        if self.gang is not None and len(self.replicas) < before:
            self.gang.restarts = True

    # --- replacing ---

    def replace(self, replicas: Sequence[Replica], budget: Budget, target: str = "") -> int:
        """Places others for some of the replicas, which leave, as far as there is room; how many, from the end.

        With a `target` they go to that cluster alone.
        """
        if self.purse is not None and len(replicas) > 1 and self.plan.division is not Division.TOGETHER:
            # One by one: each has to be paid beside those that may have to stay.
            done = 0
            while done < len(replicas) and self.replace([replicas[-1 - done]], budget, target):
                done += 1
            return done
        avoid = self._avoid
        if target:
            self._avoid = avoid.union(item.index for item in self._fleet.clusters if item.name != target)
        spent = self._spent() if self.purse is not None else 0
        kept, left, asked = self.replicas, self.leaving, set(replicas)
        self.replicas, self.leaving = [replica for replica in kept if replica not in asked], [*replicas, *left]
        before = len(self.replicas)
        self._released = max(spent - self._spent(), 0) if self.purse is not None else 0
        self._place(budget, most=len(replicas))
        self._avoid, self._released = avoid, 0
        placed = self.replicas[before:]
        gone = list(replicas)[len(replicas) - len(placed) :]
        staying = asked.difference(gone)
        self.replicas = [*(item for item in kept if item not in asked or item in staying), *placed]
        self.leaving = [*gone, *left]
        self._reason, self._message = "", ""
        return len(placed)

    def without(self, replica: Replica) -> tuple[FloatArray | None, ClusterShares | None]:
        """How all other replicas are spread, a cost by domain, and how they are shared out, where terms say so."""
        kept, self.replicas = self.replicas, [item for item in self.replicas if item is not replica]
        found = self._spread().costs(), self._cluster_shares()
        self.replicas = kept
        return found

    def left_without(self, replica: Replica) -> int | None:
        """What the workload may spend on a replica beside all others; None where it does not matter what it costs."""
        if self.purse is None:
            return None
        return self._left_beside(self.purse, [item for item in self.replicas if item is not replica])

    def can_pay(self, replicas: Sequence[Replica], *, instead_of: Sequence[Replica]) -> bool:
        """Whether the workload may spend on these, which leave, what it spends on others, if they stay after all."""
        if self.purse is None:
            return True
        replaced = set(instead_of)
        others = [item for item in self.replicas if item not in replaced]
        return self._cost_of(replicas) <= self._left_beside(self.purse, others)

    def _left_beside(self, purse: Purse, replicas: Sequence[Replica]) -> int:
        spent = self._cost_of(replicas)
        return max(purse.left_beside(self.plan.name, spent), self._spent() - spent)

    def move_one(self, cluster: str, budget: Budget) -> bool:
        """Places one unseen replica of a cluster, which is to be avoided, elsewhere; whether there was room."""
        unseen = [replica for replica in self.replicas if replica.cluster == cluster and self.is_unseen(replica)]
        if not unseen or budget.spent:
            return False
        replica = unseen[-1]
        index = self.replicas.index(replica)
        del self.replicas[index]
        before = len(self.replicas)
        self._place_each(budget, most=1)
        if len(self.replicas) > before:
            return True
        self.replicas.insert(index, replica)
        self._reason, self._message = "", ""
        return False

    # --- giving up ---

    def _give_up(self, surplus: int) -> None:
        shares = self._cluster_shares()
        if shares is not None:
            gone = set(self._surplus_by_shares(surplus, shares))
        elif self.plan.division is Division.NODES:
            ordered = sorted(self.replicas, key=lambda item: (not self.is_unseen(item), -item.ordinal))
            gone = set(ordered[:surplus])
        else:
            gone = set(self._surplus_by_cluster(surplus))
        self.replicas = [replica for replica in self.replicas if replica not in gone]

    def _surplus_by_shares(self, surplus: int, shares: ClusterShares) -> Iterator[Replica]:
        """One after the other from where the terms want the last one least; see `division`."""
        found: dict[int, list[Replica]] = {}
        for replica in sorted(self.replicas, key=lambda item: (self.is_unseen(item), item.ordinal)):
            found.setdefault(self._index_of(replica), []).append(replica)
        costs, each = self._cluster_costs(), self._fleet.config.weights.spread / len(self.replicas)
        for _ in range(surplus):
            totals = {
                index: costs[group[-1].cluster] + each * len(group)
                for index, group in found.items()
                if index >= 0 and group
            }
            index = UNKNOWN if found.get(UNKNOWN) else shares.to_give_up(totals)
            yield found[index].pop()
            if index != UNKNOWN:
                shares.count(index, -1)

    def _rearrange(self, budget: Budget) -> None:
        shares = self._cluster_shares()
        if shares is None:
            return
        spread, ordinals = self._spread(), self._free_ordinals()
        while not budget.spent:
            budget.left -= 1
            spending = self.spending(1)
            row = self._choose(spending, spread.costs(), self._avoid, shares)
            if row is None:
                return
            taker, needed = self._fleet.table.cluster_of(row), shares.needs_group()
            shares.count(taker, 1)
            giver = self._giver(shares)
            if giver is None or not (needed or shares.improves(taker, self._index_of(giver))):
                return
            self._gain(row, next(ordinals))
            self.replicas.remove(giver)
            shares.count(self._index_of(giver), -1)
            spread = self._spread()

    def _giver(self, shares: ClusterShares) -> Replica | None:
        """The replica that would go first, of those that were there before."""
        costs = self._cluster_costs()
        former = [item for item in self.replicas if item.position >= 0 and self._index_of(item) != UNKNOWN]
        totals = {self._index_of(item): costs[item.cluster] for item in former}
        if not totals:
            return None
        index = shares.to_give_up(totals)
        mine = (item for item in former if self._index_of(item) == index)
        return max(mine, key=lambda item: (self.is_unseen(item), item.ordinal, item.position))

    def _surplus_by_cluster(self, surplus: int) -> Iterator[Replica]:
        """One after the other from where a replica costs most: the mirror image of placing, spread included."""
        unseen: dict[str, list[Replica]] = {}
        seen: dict[str, list[Replica]] = {}
        for replica in self.replicas:
            group = unseen if self.is_unseen(replica) else seen
            group.setdefault(replica.cluster, []).append(replica)
        costs, each = self._cluster_costs(), self._fleet.config.weights.spread / len(self.replicas)
        counts = {cluster: len(unseen.get(cluster, ())) + len(seen.get(cluster, ())) for cluster in costs}
        for group in (unseen, seen):
            heap = [(-costs[cluster] - each * counts[cluster], cluster) for cluster in group]
            heapify(heap)
            while heap and surplus:
                cost, cluster = heappop(heap)
                yield group[cluster].pop()
                counts[cluster] -= 1
                surplus -= 1
                if group[cluster]:
                    heappush(heap, (cost + each, cluster))

    def _cluster_costs(self) -> dict[str, float]:
        """The mean cost of the nodes that the replicas have in each cluster, whatever runs on them."""
        bases: dict[str, list[float]] = {}
        for replica in self.replicas:
            known = bases.setdefault(replica.cluster, [])
            row = self._row(replica)
            if row != NO_ROW:
                base = self._profile.base(row)
                known.extend([base] if base != np.inf else [])
        return {cluster: sum(known) / len(known) if known else np.inf for cluster, known in bases.items()}


def _take_pod(pods: list[SeenPod], node: str) -> SeenPod | None:
    """A pod on this node, or else any; it is taken from the list."""
    for index, pod in enumerate(pods):
        if pod.slot.name == node:
            return pods.pop(index)
    return pods.pop() if pods else None
