"""One pod set's outcome in the making: what it keeps, gives up and gains.

A draft takes room on the node table as it goes. What it took is given to the share when its decision is folded
(`ready_holds`), or given back (`discard`).

Stability: a replica that is placed stays where it is unless it must move. Scaling up adds, and nothing else.
Scaling down gives up replicas that were never seen first; then, where Flotilla binds, the highest ordinals, and
else, one after the other, the last placed of the cluster where a replica costs most (price, measured load, and
spread). A new shape or new terms move only those replicas that no longer pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import count, filterfalse, repeat
from typing import Any

import numpy as np

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.placing.allowance import QUEUE_LIMIT, Allowance
from services.scheduler.decision.placing.confinement import Confinement
from services.scheduler.decision.placing.differing import OVERRIDES, Differing
from services.scheduler.decision.placing.division import ClusterShares
from services.scheduler.decision.placing.duplicates import settle_duplicates
from services.scheduler.decision.placing.explanations import MOST_DISPLACEMENTS, Reasons, gave_way
from services.scheduler.decision.placing.gangs import GangDraft, settle_gang
from services.scheduler.decision.placing.purse import OVER_BUDGET, Purse, Spending, spent_by
from services.scheduler.decision.placing.replicas import PLACING, Budget, Mark, Replica, by_cluster
from services.scheduler.decision.scoring.prices import price_of
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.scoring.spread import Spread
from services.scheduler.decision.scoring.unfit import UNSCHEDULABLE
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.pods import SeenPod
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.slots import NO_ROW, Hold
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray
from services.scheduler.decision.table.neighbours import PodFacts
from shared.events.v1.decisions import Displacement, PodSetPlacement, PodSetReasons, Rebalanced
from shared.events.v1.workloads import Workload

SPREAD = "SpreadConstraint"
# The index of a cluster of which nothing is known.
_UNKNOWN = -1


class PodSetDraft:
    """`avoid` are indexes of clusters where no new replica shall go. `leaving` are replicas that count no more, and
    stay until those that replace them are ready; see `evacuation`.
    """

    def __init__(
        self,
        fleet: Fleet,
        key: str,
        workload: Workload,
        plan: PodSetPlan,
        previous: PodSetPlacement | None,
        avoid: frozenset[int],
    ) -> None:
        self.plan = plan
        self.replicas: list[Replica] = []
        self.leaving: list[Replica] = []
        self.away: dict[str, int] = {}
        self.returning: tuple[str, ...] = ()
        # The last replica that moved to a better place.
        self.rebalanced: Rebalanced | None = None
        self.ready_holds: dict[str, list[Hold]] = {}
        self.allowance: Allowance | None = None
        # What the workload may cost, if that has a limit.
        self.purse: Purse | None = None
        # Where the last choice found none for its price.
        self._too_dear: Spending | None = None
        # What those cost that are being replaced: as much may be spent in any case.
        self._released = 0
        # Of a workload that is in one cluster at a time: where that is.
        self.confined: Confinement | None = None
        self.gang = GangDraft(plan.gang, previous) if plan.gang is not None else None
        self._fleet = fleet
        self._workload = key
        self._differing = Differing(fleet, plan, previous) if plan.overrides is not None else None
        self._avoid = avoid.union(self._differing.unfit) if self._differing is not None else avoid
        self._avoid_anyway = self._avoid
        self._facts: PodFacts | None = plan.facts(workload)
        self._profile: Profile = fleet.profile_for(plan.demand, self._facts)
        self._reasons = Reasons(fleet, self._profile, self._avoid)
        self._why: PodSetReasons | None = None
        # For whom replicas that wait made room.
        self.preempted: tuple[Displacement, ...] = ()
        # For whom room is kept that is free, but not for this.
        self.kept_for = ""
        self._reason, self._message = "", ""
        # Replicas that should be where they cannot.
        self._refused = 0
        self._rearranging = False
        if previous is not None:
            self._continue(previous)
        if self._differing is not None:
            differing = self._differing
            self.drop(lambda replica: differing.is_impossible(replica.cluster))

    def _continue(self, previous: PodSetPlacement) -> None:
        """From what is there already."""
        self.away = {**previous.away} if self.plan.failback else {}
        self.returning, self._why, self.preempted = previous.returning, previous.why, previous.preempted
        self.rebalanced = previous.rebalanced
        if self.plan.duplicated:
            self._refused = max(0, previous.desired - previous.placed)
        for share in previous.shares:
            for position in range(share.replicas):
                node = share.nodes[position] if share.nodes else ""
                ordinal = share.ordinals[position] if share.ordinals else 0
                replicas = self.replicas if position < share.kept else self.leaving
                replicas.append(Replica(share.cluster, node, ordinal, position))

    @property
    def missing(self) -> int:
        missing = self.plan.desired - len(self.replicas)
        return max(0, missing)

    @property
    def placeable(self) -> int:
        """Of those that are missing, as many as the queue may have."""
        return min(self.missing, self.left_in_queue) if self.allowance is not None else self.missing

    @property
    def may_grow(self) -> bool:
        """Whether what is missing lacks room, and nothing else: neither its queue nor its price keeps it waiting."""
        spending = self.spending(self.missing) if self.placeable else None
        if spending is None:
            return bool(self.placeable)
        spending.affordable(self._profile.passing(avoid=self._avoid))
        return spending.lowest is None

    @property
    def left_in_queue(self) -> int:
        """How many more replicas the queue may have."""
        return (
            max(0, self.allowance.most(self.plan) - len(self.replicas)) if self.allowance is not None else self.missing
        )

    def limited(self) -> tuple[str, str]:
        """Why no more replicas are placed, where the queue may not have them."""
        assert self.allowance is not None
        return QUEUE_LIMIT, self.allowance.why(self.plan)

    def keep_within_queue(self) -> None:
        """Gives up what is beyond the limit of the queue, since a user changed the queue or what each replica takes."""
        before = len(self.replicas)
        kept = max(0, self.allowance.most(self.plan)) if self.allowance is not None else before
        if kept < before and self.plan.division is Division.TOGETHER:
            self.replicas = []
        elif kept < before:
            self._give_up(before - kept)
        self._note_change(before)

    def place_rest(self, budget: Budget) -> None:
        """Places what is missing, one by one, after other pod sets were settled as well."""
        self._profile = self._fleet.profile_for(self.plan.demand, self._facts)
        self._reasons.go_on(self._profile)
        self._place(budget)
        self._conclude()

    def _conclude(self) -> None:
        """Says why replicas wait, if any do."""
        if self.missing and not self.waits:
            self.wait_for(*(self._explain() if self.placeable else self.limited()))
        self._note()

    def _note(self) -> None:
        """The other pod sets may have what this one leaves of the queue's limit, and of the money."""
        if self.allowance is not None:
            self.allowance.note(self.plan, len(self.replicas))
        if self.purse is not None:
            self.purse.note(self.plan.name, self._spent())

    @property
    def waits(self) -> bool:
        """Whether it is said why replicas have no place."""
        return bool(self._reason)

    def wait_for(self, reason: str, message: str) -> None:
        self._reason, self._message = reason, message

    def settle(self, budget: Budget) -> None:
        """Brings the number of replicas to what is desired, as far as there is room; see `follow` for those that do."""
        division = self.plan.division
        if division is Division.FOLLOWS:
            return
        if division is Division.EVERYWHERE:
            self._place_everywhere()
            return
        if self.plan.duplicated:
            settle_duplicates(self, budget)
            self._note()
            return
        surplus = len(self.replicas) - self.plan.desired
        if surplus > 0:
            self._give_up(surplus)
        self._reason, self._message = "", ""
        self._too_dear = None
        self._confine()
        if self.gang is not None:
            settle_gang(self, self.gang, budget)
        elif self.plan.division is Division.TOGETHER and self.placeable < self.missing:
            self.wait_for(*self.limited())
        elif surplus < 0:
            self._place(budget)
        if self.gang is not None and self.gang.has_rest_later(self):
            self._note()
        else:
            self._conclude()
        if self._rearranging:
            self._rearrange(budget)

    def _confine(self) -> None:
        """Keeps away from clusters where nothing may be while the workload may run in another."""
        if self.confined is not None:
            self._avoid = self._avoid_anyway.union(self.confined.barred())

    def outcome(self) -> PodSetPlacement:
        """Validated in one go with all that it is made of; what is as the contract's default is left out."""
        plan = self.plan
        kept, leaving = by_cluster(self.replicas), by_cluster(self.leaving) if self.leaving else {}
        outcome: dict[str, Any] = {
            "name": plan.name,
            "desired": self._desired(),
            "shares": [
                self._share(cluster, kept.get(cluster, []), leaving.get(cluster, []))
                for cluster in sorted(kept.keys() | leaving.keys() if leaving else kept)
            ],
            "why": self._reasons.record(
                self._why,
                waits=bool(self._reason) and self._reason != PLACING,
                left=self._too_dear.left if self._too_dear is not None and self._reason == OVER_BUDGET else None,
            ),
        }
        if self.purse is not None:
            outcome["price_per_hour"] = price_of(self._spent())
        if self._reason:
            outcome["reason"], outcome["message"] = self._reason, self._message
            if self.preempted and self._reason != PLACING:
                outcome |= gave_way(self.preempted, self._message)
        if self.away:
            outcome["away"] = {name: self.away[name] for name in sorted(self.away) if self.away[name] > 0}
        if self.returning:
            outcome["returning"] = self.returning
        if self.rebalanced is not None:
            outcome["rebalanced"] = self.rebalanced
        if plan.follows:
            outcome["follows"] = plan.follows
        if self.gang is not None and self.gang.started:
            outcome["started"] = self.gang.started
        return PodSetPlacement.model_validate(outcome)

    def _share(self, cluster: str, kept: list[Replica], leaving: list[Replica]) -> dict[str, Any]:
        """As `ClusterShare`."""
        replicas = [*kept, *leaving] if leaving else kept
        share: dict[str, Any] = {"cluster": cluster, "replicas": len(replicas)}
        if nodes := [replica.node for replica in replicas if replica.node]:
            share["nodes"] = nodes
        if self.plan.division is Division.NODES:
            share["ordinals"] = [replica.ordinal for replica in replicas]
        if self._differing is not None:
            share["overrides"] = self._differing.names_in(cluster)
        if leaving:
            share["leaving"] = len(leaving)
        return share

    def _desired(self) -> int:
        match self.plan.division:
            case Division.EVERYWHERE:
                return max(1, len(self.replicas))
            case Division.FOLLOWS:
                return len(self.replicas) + self._refused
            case _:
                return len(self.replicas) + self._refused if self.plan.duplicated else self.plan.desired

    def _explain(self) -> tuple[str, str]:
        if self._too_dear is not None:
            return OVER_BUDGET, self._too_dear.why()
        if self.confined is not None and (confined := self.confined.explain()) is not None:
            return confined
        if self._differing is not None and self._differing.unfit and self._profile.has_room():
            return OVERRIDES, self._differing.message
        if self._avoid and self._profile.has_room():
            names = sorted(cluster.name for cluster in self._fleet.clusters if cluster.index in self._avoid)
            return UNSCHEDULABLE, f"its pods found no node lately in the clusters that have room: {', '.join(names)}"
        reason, message = self._profile.explain()
        return reason, f"{message} Room is kept for {self.kept_for}." if self.kept_for else message

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

    def lack(self, count: int, reason: str, message: str) -> None:
        """So many replicas find no place, beside those that are there."""
        self._refused, self._reason, self._message = count, reason, message

    def follow(self, clusters: set[str]) -> None:
        """One copy in each of these clusters, and no other."""
        impossible = self._differing.is_impossible if self._differing is not None else lambda _: False
        refused = {cluster for cluster in clusters if impossible(cluster)}
        kept = {replica.cluster: replica for replica in self.replicas}
        self.replicas = [kept.get(cluster) or Replica(cluster) for cluster in sorted(clusters - refused)]
        self._refused = len(refused)
        self._reason, self._message = "", ""
        if refused and self._differing is not None:
            self._reason, self._message = OVERRIDES, self._differing.message

    def discard(self) -> None:
        """Gives back the room that was taken: nothing came of this draft."""
        for holds in self.ready_holds.values():
            self._fleet.slots.take_back(holds)
        self.ready_holds.clear()

    # --- keeping ---

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

    def drop(self, unfit: Callable[[Replica], bool]) -> None:
        """Gives up the replicas of which this holds."""
        self.replicas = [replica for replica in self.replicas if not unfit(replica)]
        self.leaving = [replica for replica in self.leaving if not unfit(replica)]

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
        others = (item for item in self.replicas if item is not replica)
        spent = spent_by(self._fleet, self._profile.prices(), self._workload, self.plan, others)
        return max(self.purse.left_beside(self.plan.name, spent), self._spent() - spent)

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

    def passes(self, replica: Replica) -> bool:
        """Whether the replica's node is there, and takes such pods whatever runs on it."""
        row = self._row(replica)
        return row != NO_ROW and self._profile.base(row) != np.inf

    def is_unseen(self, replica: Replica) -> bool:
        """Whether room is held for the replica because no pod of it was seen."""
        share = self._fleet.pods.find_share(self._share_key(replica.cluster))
        return share is not None and replica.position >= 0 and share.hold_at(replica.position) is not None

    # --- preempting ---

    @property
    def workload(self) -> str:
        return self._workload

    @property
    def profile(self) -> Profile:
        return self._profile

    @property
    def avoid(self) -> frozenset[int]:
        return self._avoid

    @property
    def finds_no_node(self) -> bool:
        """Whether what is missing would be placed if less ran somewhere: all that it lacks is room on nodes."""
        plan = self.plan
        whole = plan.gang is not None or (plan.division is Division.TOGETHER and plan.desired > 1)
        lacks_room = self._reason in (UNSCHEDULABLE, OVER_BUDGET)
        return bool(self.placeable) and lacks_room and not whole and not plan.duplicated

    def open_rows(self) -> BoolArray:
        """The rows to which the next replica might go, whatever runs there: by facts, by cluster, and by the terms."""
        self._confine()
        table = self._fleet.table
        clusters = np.ones(len(self._fleet.clusters), np.bool_)
        if (shares := self._cluster_shares()) is not None:
            clusters = shares.allowed(self._avoid)
        clusters[list(self._avoid)] = False
        blocks = self._profile.open_blocks() & clusters[table.block_cluster]
        rows = self._profile.open_rows() & np.repeat(blocks, BLOCK)
        spending = self.spending(self.missing)
        affordable = spending.affordable(rows) if spending is not None else None
        if spending is None:
            return rows
        return rows & affordable if affordable is not None else np.zeros(len(rows), np.bool_)

    def place_one(self, budget: Budget) -> bool:
        """Places one more replica, if there is room for it."""
        before = len(self.replicas)
        self._place(budget, most=1)
        return len(self.replicas) > before

    def take(self, row: int, displaced: Iterable[Displacement]) -> None:
        """Places one more replica on a row, where others make room for it."""
        # What made room has been lifted since rows were looked at.
        self._profile.refresh()
        self._too_dear = None
        self._reasons.note(row, None, self._avoid, None)
        self._reasons.displaced += displaced
        self._gain(row, next(self._free_ordinals()))

    def spare(self, displaced: Displacement) -> None:
        """What made room for a replica need not, after all."""
        self._reasons.displaced.remove(displaced)

    def conclude(self, budget: Budget) -> None:
        """Says anew why what is missing waits, after some was placed."""
        if not self.missing:
            self._reason, self._message = "", ""
        elif budget.spent:
            self._reason, self._message = PLACING, "more replicas are about to be placed"
        else:
            self._reason, self._message = self._explain() if self.placeable else self.limited()
        self._note()

    def give_way(self, cluster: str, positions: Collection[int] | None, to: Displacement) -> None:
        """Replicas of a cluster make room for another workload's; they wait from now on. Where it is not said which,
        one whose pod was seen, on the node where the room is if there is one.
        """
        mine = [replica for replica in self.replicas if replica.cluster == cluster]
        if positions is None:
            gone = {max(mine, key=lambda item: (not self.is_unseen(item), item.node == to.node, item.position))}
        else:
            gone = {replica for replica in mine if replica.position in positions}
        self.replicas = [replica for replica in self.replicas if replica not in gone]
        if self.plan.duplicated:
            self._refused += len(gone)
        self.preempted = (*self.preempted, to)[-MOST_DISPLACEMENTS:]
        self._reason, self._message = self._explain()
        if not self._reason:
            self._reason = UNSCHEDULABLE

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
            index = _UNKNOWN if found.get(_UNKNOWN) else shares.to_give_up(totals)
            yield found[index].pop()
            if index != _UNKNOWN:
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
        former = [item for item in self.replicas if item.position >= 0 and self._index_of(item) != _UNKNOWN]
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

    # --- gaining ---

    def _place(self, budget: Budget, most: int | None = None) -> None:
        if self.plan.division is Division.TOGETHER:
            self._place_together(budget)
        else:
            self._place_each(budget, most)

    def mark(self) -> Mark:
        """What there is now, for `take_back`."""
        holds = {name: len(made) for name, made in self.ready_holds.items()}
        return Mark(len(self.replicas), holds, self._reasons.noted())

    def take_back(self, mark: Mark) -> None:
        """Gives up what was gained since then, and its room."""
        del self.replicas[mark.replicas :]
        for name, holds in self.ready_holds.items():
            kept = mark.holds.get(name, 0)
            self._fleet.slots.take_back(holds[kept:])
            del holds[kept:]
        self._reasons.forget_since(mark.noted)

    def _place_each(self, budget: Budget, most: int | None = None) -> None:
        if self.plan.duplicated:
            # What is everywhere already has nowhere else to go.
            return
        spread, ordinals = self._spread(), self._free_ordinals()
        shares = self._cluster_shares() if self.plan.sharing is not None else None
        if shares is not None and (problem := shares.shortage(self._avoid)):
            self._reason, self._message = SPREAD, problem
            return
        avoid, spending, mark = self._avoid, None, None
        if self.purse is not None:
            spending, mark = self.spending(self.missing), self.mark()
        for _ in range(self.placeable if most is None else most):
            if budget.left <= 0:
                self._reason, self._message = PLACING, "more replicas are about to be placed"
                return
            costs = spread.costs()
            row = self._choose(spending, costs, avoid, shares)
            if row is None:
                budget.vain += 1
                if mark is not None and shares is not None and shares.needs_group():
                    # There is money for some groups, and not for as many as there have to be.
                    self.take_back(mark)
                return
            budget.left -= 1
            only = spending.rows if spending is not None else None
            self._reasons.note(row, costs, avoid, costs if shares is None else shares.further, only)
            self._gain(row, next(ordinals))
            if spending is not None:
                spending.pay(row)
            spread.add(row)
            if shares is not None:
                shares.count(self._fleet.table.cluster_of(row), 1)

    def spending(self, missing: int) -> Spending | None:
        """For choices from now on, of so many replicas; None where it does not matter what they cost."""
        if self.purse is None:
            return None
        left = max(self.purse.left_beside(self.plan.name, self._spent()), self._released)
        return Spending(self._profile.prices(), self.purse.limit, left, missing)

    def _spent(self) -> int:
        return spent_by(self._fleet, self._profile.prices(), self._workload, self.plan, self.replicas)

    def _choose(
        self,
        spending: Spending | None,
        costs: FloatArray | None = None,
        avoid: Collection[int] = (),
        shares: ClusterShares | None = None,
    ) -> int | None:
        """The row for the next replica, as `Profile.best` and `ClusterShares.best`, of those that can be paid."""
        profile = self._profile
        if spending is None:
            return profile.best(costs, avoid) if shares is None else shares.best(costs, avoid)
        rows = spending.affordable(profile.passing(costs if shares is None else shares.closed(avoid), avoid))
        self._too_dear = spending if spending.lowest is not None else None
        if rows is None:
            return None
        return profile.best_within(rows, costs, avoid) if shares is None else shares.best(costs, avoid, rows)

    def _place_together(self, budget: Budget) -> None:
        """All in one cluster or none; what is there already decides which cluster."""
        present = {replica.cluster for replica in self.replicas}
        everything = frozenset(cluster.index for cluster in self._fleet.clusters)
        full = set(self._avoid)
        shares = self._cluster_shares()
        if budget.spent:
            self._reason, self._message = PLACING, "it is about to be placed"
            return
        too_dear: Spending | None = None
        while True:
            spending = self.spending(self.missing)
            row = self._choose(spending, None, full, shares)
            if row is None:
                self._too_dear = self._too_dear or too_dear
                return
            index = self._fleet.table.cluster_of(row)
            slot = self._fleet.slots.by_row(row)
            elsewhere = everything - {index}
            if not present or slot.cluster in present:
                only = spending.rows if spending is not None else None
                self._reasons.note(row, None, full, None if shares is None else shares.further, only)
                if self._fill(self.missing, index, elsewhere):
                    budget.left -= self.plan.desired
                    return
                self._reasons.take_back(row)
                too_dear = too_dear or self._too_dear
            budget.vain += 1
            full.add(index)

    def _fill(self, count: int, cluster: int, elsewhere: frozenset[int], others: int = 0) -> bool:
        """Places so many in a cluster, or none; `others` are to be paid as well."""
        if count > 1 and self._room_in(cluster) < count:
            return False
        mark, spending = self.mark(), self.spending(count + others)
        for _ in range(count):
            row = self._choose(spending, None, elsewhere)
            if row is None:
                # Single devices fit fewer pods than their sum: what was placed is taken back.
                self.take_back(mark)
                return False
            self._gain(row, 0)
            if spending is not None:
                spending.pay(row)
        return True

    def _room_in(self, cluster: int) -> int:
        blocks = np.flatnonzero(self._fleet.table.block_cluster == cluster)
        rows = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        return int(self._profile.room(rows).sum())

    def _place_everywhere(self) -> None:
        present = {replica.cluster for replica in self.replicas}
        for cluster in self._fleet.clusters:
            if cluster.name in present or cluster.index in self._avoid:
                continue
            if self._profile.accepts(cluster):
                self.replicas.append(Replica(cluster.name))
        self._reason, self._message = "", ""
        if not self.replicas:
            self._reason, self._message = self._explain()

    def _gain(self, row: int, ordinal: int) -> None:
        slot = self._fleet.slots.by_row(row)
        if not self.plan.holds_room:
            self.replicas.append(Replica(slot.cluster))
            return
        hold = self._fleet.slots.hold(slot, self._profile.request, None, self._facts)
        self.ready_holds.setdefault(slot.cluster, []).append(hold)
        self.replicas.append(Replica(slot.cluster, slot.name, ordinal))

    def _cluster_shares(self) -> ClusterShares | None:
        """How replicas are shared out, where the terms say so, from how they are now."""
        plan = self.plan
        if plan.sharing is None or plan.duplicated:
            return None
        present = (index for index in map(self._index_of, self.replicas) if index != _UNKNOWN)
        desired = min(plan.desired, 1) if plan.division is Division.TOGETHER else plan.desired
        return ClusterShares(self._fleet, self._profile, plan.sharing, desired, present)

    def _index_of(self, replica: Replica) -> int:
        cluster = self._fleet.clusters.get(replica.cluster)
        return cluster.index if cluster is not None else _UNKNOWN

    def _spread(self) -> Spread:
        spread = Spread(self._fleet.table, self.plan.desired, self._fleet.config.weights.spread)
        for replica in self.replicas:
            row = self._row(replica)
            if row != NO_ROW:
                spread.add(row)
            elif (cluster := self._fleet.clusters.get(replica.cluster)) is not None:
                spread.add_to_cluster(cluster.index)
        return spread

    def _free_ordinals(self) -> Iterator[int]:
        if self.plan.division is not Division.NODES:
            return repeat(0)
        if not self.replicas and not self.leaving:
            return count()
        taken = {replica.ordinal for replica in (*self.replicas, *self.leaving)}
        return filterfalse(taken.__contains__, count())

    def _fits(self, row: int) -> bool:
        return self._profile.cost(row) != np.inf

    def _row(self, replica: Replica) -> int:
        slot = self._fleet.slots.get(replica.cluster, replica.node) if replica.node else None
        return slot.row if slot is not None else NO_ROW

    def _share_key(self, cluster: str) -> ShareKey:
        return ShareKey(self._workload, self.plan.name, cluster)


def settle_followers(drafts: list[PodSetDraft]) -> None:
    """Copies of what follows go where the others are now, and stay until these have left."""
    for draft in drafts:
        if draft.plan.follows:
            leaders = (other for other in drafts if other.plan.name in draft.plan.follows)
            draft.follow({replica.cluster for leader in leaders for replica in (*leader.replicas, *leader.leaving)})


def _take_pod(pods: list[SeenPod], node: str) -> SeenPod | None:
    """A pod on this node, or else any; it is taken from the list."""
    for index, pod in enumerate(pods):
        if pod.slot.name == node:
            return pods.pop(index)
    return pods.pop() if pods else None
