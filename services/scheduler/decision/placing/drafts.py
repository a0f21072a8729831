"""One pod set's outcome in the making: what it keeps, gives up and gains.

A draft takes room on the node table as it goes (`gaining`). What it took is given to the share when its decision is
folded (`ready_holds`), or given back (`discard`). Scaling up adds, and nothing else; what scaling down gives up says
`giving`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.placing.allowance import QUEUE_LIMIT
from services.scheduler.decision.placing.differing import OVERRIDES
from services.scheduler.decision.placing.duplicates import settle_duplicates
from services.scheduler.decision.placing.explanations import MOST_DISPLACEMENTS, gave_way
from services.scheduler.decision.placing.gangs import settle_gang
from services.scheduler.decision.placing.giving import Giving
from services.scheduler.decision.placing.purse import OVER_BUDGET
from services.scheduler.decision.placing.replicas import PLACING, Budget, Replica, by_cluster
from services.scheduler.decision.scoring.prices import price_of
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.scoring.unfit import UNSCHEDULABLE
from services.scheduler.decision.table.arrays import BLOCK, BoolArray
from shared.events.v1.decisions import Displacement, PodSetPlacement


class PodSetDraft(Giving):
    """What becomes of a pod set, as it is asked for and as others' needs leave it."""

    @property
    def may_grow(self) -> bool:
        """Whether what is missing lacks room, and nothing else: neither its queue nor its price keeps it waiting."""
        spending = self.spending(self.missing) if self.placeable else None
        if spending is None:
            return bool(self.placeable)
        spending.affordable(self._profile.passing(avoid=self._avoid))
        return spending.lowest is None

    def limited(self) -> tuple[str, str]:
        """Why no more replicas are placed, where the queue may not have them."""
        assert self.allowance is not None
        return QUEUE_LIMIT, self.allowance.why(self.plan)

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
            outcome["away"] = self._still_away(kept)
        if self.returning:
            outcome["returning"] = self.returning
        if self.rebalanced is not None:
            outcome["rebalanced"] = self.rebalanced
        if plan.follows:
            outcome["follows"] = plan.follows
        if self.gang is not None and self.gang.started:
            outcome["started"] = self.gang.started
        followed = {"scaled": plan.scaled, "requested": plan.requested}
        outcome |= {name: said for name, said in followed.items() if said is not None}
        return PodSetPlacement.model_validate(outcome)

    def _still_away(self, kept: Mapping[str, Sequence[Replica]]) -> dict[str, int]:
        """By home, at most as many as are not there: who came home another way, as by leaving a third cluster, or is
        asked for no more, is away no longer.
        """
        most = {name: self._desired() - len(kept.get(name, ())) for name in sorted(self.away)}
        return {name: count for name in most if (count := min(self.away[name], most[name])) > 0}

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


def settle_followers(drafts: list[PodSetDraft]) -> None:
    """Copies of what follows go where the others are now, and stay until these have left."""
    for draft in drafts:
        if draft.plan.follows:
            leaders = (other for other in drafts if other.plan.name in draft.plan.follows)
            draft.follow({replica.cluster for leader in leaders for replica in (*leader.replicas, *leader.leaving)})
