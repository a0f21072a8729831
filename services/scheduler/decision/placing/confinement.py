"""At most once: a workload that is confined is in one cluster at a time, and whole.

Nothing of it is placed in a cluster while any other one may run some of it: because it has a share in this or the last
decision, or was told to withdraw it and has not confirmed that it is gone. So the order of every move is remove,
confirm, start elsewhere; that there was room elsewhere when it began is all that can be had without running twice.

A cluster is taken to run nothing more of it when it confirmed that, when it left the fleet, when whoever declared it
says that it is out of service (`ClusterTable.runs_nothing`), or when it is lost and what it runs by its executor's
lease has ended (`seen/leases.py`), where the workload runs by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.placing.replicas import Budget
from services.scheduler.decision.scoring.unfit import UNSCHEDULABLE
from services.scheduler.decision.seen.fleet import Fleet

if TYPE_CHECKING:
    from services.scheduler.decision.placing.drafts import PodSetDraft

AWAITING = "AwaitingWithdrawal"


class Confinement:
    """`commanded` are the clusters that may run some of the workload, by what was decided and confirmed until now,
    unless `released` says that they do not.
    """

    def __init__(self, fleet: Fleet, commanded: Iterable[str], released: Callable[[str], bool]) -> None:
        self._fleet = fleet
        self._held = frozenset(name for name in commanded if not released(name))
        self.released = released
        self._drafts: list[PodSetDraft] = []
        # Where it shall not go, or was found not to fit as a whole.
        self._closed: set[str] = set()
        self._short = ""

    def add(self, draft: PodSetDraft) -> None:
        draft.confined = self
        # What was being replaced when this was asked is given up: both may run, and that was asked to end.
        draft.leaving = []
        self._drafts.append(draft)

    def leave(self, cluster: str) -> None:
        """Gives up all that is placed, and does not come back to this cluster with this decision."""
        self._closed.add(cluster)
        for draft in self._drafts:
            draft.drop(lambda _: True)

    def barred(self) -> frozenset[int]:
        """The indexes of the clusters where nothing may be placed now."""
        running = self._running()
        if not running and not self._closed:
            return frozenset()
        home = next(iter(running)) if len(running) == 1 else None
        return frozenset(
            cluster.index
            for cluster in self._fleet.clusters
            if cluster.name in self._closed or (running and cluster.name != home)
        )

    def _running(self) -> frozenset[str]:
        """The clusters that may run some of it, by what is about to be decided as well."""
        placed = (replica.cluster for draft in self._drafts for replica in (*draft.replicas, *draft.leaving))
        return self._held.union(placed)

    def explain(self) -> tuple[str, str] | None:
        """Why no other cluster may have what is missing; None where any may."""
        running = self._running()
        if not running and self._short:
            return UNSCHEDULABLE, f"no cluster has room for all of it at once: {self._short} found none."
        if not running:
            return None
        placed = {replica.cluster for draft in self._drafts for replica in draft.replicas}
        if len(running) == 1 and placed:
            return UNSCHEDULABLE, f"it runs in {min(placed)} at most once, and there is no room for all of it."
        names = ", ".join(sorted(running - placed))
        return AWAITING, f"it runs at most once, and has not been confirmed to be gone from: {names}"

    def settle(self, budget: Budget) -> None:
        """Settles all pod sets. What has nothing yet goes to a cluster that has room for all of it, or nowhere."""
        placing = [draft for draft in self._drafts if draft.plan.division is not Division.FOLLOWS]
        order = sorted(placing, key=lambda draft: not draft.plan.holds_room)
        fresh = not any(draft.replicas for draft in order)
        marks = [draft.mark() for draft in order]
        while True:
            for draft in order:
                draft.settle(budget)
            short = [draft.plan.name for draft in order if draft.missing]
            placed = {replica.cluster for draft in order for replica in draft.replicas}
            if not fresh or not short or not placed or budget.spent:
                return
            # Those that are named found no room beside the others.
            self._closed |= placed
            self._short = ", ".join(short)
            for draft, mark in zip(order, marks, strict=True):
                draft.take_back(mark)
