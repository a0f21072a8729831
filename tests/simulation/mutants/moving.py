"""Defects of what moves though nothing is wrong with it: back to where it was, to better places, beyond limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.decided.records import WorkloadRecord
from services.scheduler.decision.leaving.evacuation import Evacuation
from services.scheduler.decision.placing.allowance import Allowance
from services.scheduler.decision.placing.drafts import PodSetDraft
from services.scheduler.decision.placing.purse import Spending
from services.scheduler.decision.placing.replicas import Budget
from services.scheduler.decision.preempting.claims import Claim
from services.scheduler.decision.preempting.lending import Ledger, ReclaimClaim
from services.scheduler.decision.rebalancing.better import Search
from services.scheduler.decision.rebalancing.rebalancing import Rate, Rebalancing
from services.scheduler.decision.seen.troubles import Troubles
from services.scheduler.decision.table.arrays import BoolArray
from shared.events.v1.decisions import PodSetPlacement
from tests.simulation.generator import CROWD, HURRY, PRICED, QUEUED, REBALANCED, RETURNS
from tests.simulation.mutants.fronts import moves_may_be_many
from tests.simulation.mutants.mutant import mutant

_MUCH = 1_000_000


@mutant("not returned", faults=(RETURNS, "outage:watcher"))
def nothing_ever_returns() -> Iterator[None]:
    """What had to leave a cluster is counted, and nobody looks whether that is well again."""
    with patch.object(Evacuation, "homes", lambda *_: []):
        yield


@mutant("forgotten home", faults=(RETURNS, "outage:watcher"))
def where_it_came_from_is_not_written_down() -> Iterator[None]:
    """What is to return is in the leader's memory alone, or not even there: the decision does not say it."""
    original = PodSetDraft.outcome

    def outcome(self: PodSetDraft) -> PodSetPlacement:
        return original(self).model_copy(update={"away": {}})

    with patch.object(PodSetDraft, "outcome", outcome):
        yield


@mutant("over limit", faults=(QUEUED, CROWD))
def a_limit_is_a_wish() -> Iterator[None]:
    """A queue gets whatever is free, as if it had only a weight."""
    with patch.object(Allowance, "most", lambda *_: _MUCH):
        yield


@mutant("not reclaimed", faults=(QUEUED, CROWD))
def what_was_borrowed_is_kept() -> Iterator[None]:
    """A guarantee counts for whose turn it is, and nothing more: who comes late waits until others end."""
    original = Ledger.claims

    def claims(self: Ledger, record: WorkloadRecord, demand: Demand) -> Iterator[Claim]:
        return (claim for claim in original(self, record, demand) if not isinstance(claim, ReclaimClaim))

    with patch.object(Ledger, "claims", claims):
        yield


@mutant("too dear", faults=(PRICED, HURRY))
def money_is_no_object() -> Iterator[None]:
    """What is spent is added up, and never looked at: a workload costs whatever its best places cost."""

    def affordable(self: Spending, passing: BoolArray) -> BoolArray | None:
        self.rows = np.ones_like(passing)
        return self.rows

    with patch.object(Spending, "affordable", affordable):
        yield


@mutant("no rest", faults=(REBALANCED, HURRY))
def who_arrived_may_leave_at_once() -> Iterator[None]:
    """The cooldown of what moves to better places is read, and comes to nothing: replicas wander on as costs change."""
    original = Rebalancing.settle

    def settle(self: Rebalancing, workload: str, draft: PodSetDraft, budget: Budget, withdrawn: object) -> None:
        plan = draft.plan
        if plan.rebalance is not None:
            draft.plan = replace(plan, rebalance=plan.rebalance.model_copy(update={"cooldown_seconds": 0}))
        original(self, workload, draft, budget, withdrawn)
        draft.plan = plan

    with patch.object(Rebalancing, "settle", settle):
        yield


@mutant("moved for nothing", faults=(REBALANCED, HURRY))
def any_other_place_is_a_better_one() -> Iterator[None]:
    """Pods are started and stopped for less than it is worth, to and fro: a threshold that is not looked at."""
    original = Search.__init__

    def search(self: Search, fleet: Any, draft: Any, minimum: float, closed: Any) -> None:
        del minimum
        original(self, fleet, draft, -1.0, closed)

    with patch.object(Search, "__init__", search):
        yield


@mutant("moved in doubt", faults=(REBALANCED, "outage:watcher"))
def a_cluster_is_well_until_it_is_left() -> Iterator[None]:
    """Replicas move out of a cluster of which nothing was heard for a while, by what was known of it last."""
    with patch.object(Troubles, "is_stable", lambda *_: True):
        yield


@mutant("two at once", faults=(REBALANCED, HURRY, "outage:watcher"), behind=moves_may_be_many)
def replicas_move_whatever_else_moves() -> Iterator[None]:
    """The next replica of a workload begins to move before the replacement of the last one is ready."""
    with patch.object(Rebalancing, "_is_at_rest", lambda *_: True):
        yield


@mutant("over budget", faults=(REBALANCED, HURRY, "outage:watcher"))
def moves_cost_nothing() -> Iterator[None]:
    """The pace is looked at, and never used up: the fleet is rearranged all at once."""
    with patch.object(Rate, "spend", lambda *_: None):
        yield
