"""Duplicated pod sets: each eligible cluster has all of their replicas, as far as it has room.

Clusters are independent of each other: what one lacks no other makes up for, and nothing moves between them. A cluster
that takes no replicas at present keeps what it has, and lacks nothing. What is placed whole is so in each cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.scheduler.decision.asked.admission import MAX_WORKLOAD_REPLICAS
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.clusters import Cluster
from services.scheduler.decision.placing.purse import OVER_BUDGET
from services.scheduler.decision.placing.replicas import PLACING, Budget, by_cluster
from services.scheduler.decision.scoring.unfit import UNSCHEDULABLE

if TYPE_CHECKING:
    from services.scheduler.decision.placing.drafts import PodSetDraft

TOO_LARGE = "TooLarge"


def settle_duplicates(draft: PodSetDraft, budget: Budget) -> None:
    """Brings each cluster to what is desired."""
    _trim(draft)
    draft.lack(0, "", "")
    draft._too_dear = None
    open_to = [
        cluster
        for cluster in sorted(draft._fleet.clusters, key=lambda cluster: cluster.name)
        if cluster.index not in draft._avoid and draft._profile.accepts(cluster)
    ]
    if not open_to and not draft.replicas:
        draft.lack(draft.plan.desired, *draft._explain())
        return
    wanted = {cluster.name: _lacking(draft, cluster) for cluster in open_to}
    short, too_dear = {}, None
    for cluster in open_to:
        # What others lack has to be paid as well.
        others = sum(wanted.values()) - wanted[cluster.name]
        if lacking := _settle_in(draft, cluster, wanted.pop(cluster.name), others, budget):
            short[cluster.name] = lacking
            too_dear = too_dear or draft._too_dear
    if not short:
        return
    count, names = sum(short.values()), ", ".join(short)
    if budget.spent:
        draft.lack(count, PLACING, "more replicas are about to be placed")
    elif draft.allowance is not None and not draft.left_in_queue:
        draft.lack(count, *draft.limited())
    elif too_dear is not None:
        draft._too_dear = too_dear
        draft.lack(count, OVER_BUDGET, too_dear.why())
    elif len(draft.replicas) >= MAX_WORKLOAD_REPLICAS:
        draft.lack(
            count, TOO_LARGE, f"a workload has at most {MAX_WORKLOAD_REPLICAS} replicas; it lacks some in: {names}"
        )
    else:
        draft.lack(count, UNSCHEDULABLE, f"there is no room for {count} replicas in clusters: {names}")


def _trim(draft: PodSetDraft) -> None:
    """Each cluster gives up what is too much: first what was never seen, then the highest ordinals, then the last."""
    ordered = sorted(draft.replicas, key=lambda item: (draft.is_unseen(item), item.ordinal))
    kept = {replica for mine in by_cluster(ordered).values() for replica in mine[: draft.plan.desired]}
    draft.replicas = [replica for replica in draft.replicas if replica in kept]


def _lacking(draft: PodSetDraft, cluster: Cluster) -> int:
    return max(draft.plan.desired - sum(replica.cluster == cluster.name for replica in draft.replicas), 0)


def _settle_in(draft: PodSetDraft, cluster: Cluster, lacking: int, others: int, budget: Budget) -> int:
    """Places what one cluster lacks; returns what it lacks still."""
    if not lacking:
        return 0
    if budget.spent or len(draft.replicas) + lacking > MAX_WORKLOAD_REPLICAS:
        return lacking
    beyond = max(0, lacking - draft.left_in_queue) if draft.allowance is not None else 0
    if draft.plan.division is Division.TOGETHER:
        if beyond:
            return lacking
        elsewhere = frozenset(other.index for other in draft._fleet.clusters) - {cluster.index}
        if draft._fill(lacking, cluster.index, elsewhere, others):
            budget.left -= lacking
            return 0
        budget.vain += 1
        return lacking
    lacking -= beyond
    table, spread, ordinals = draft._fleet.table, draft._spread(), draft._free_ordinals()
    spending = draft.spending(lacking + others)
    while lacking and not budget.spent:
        costs = spread.costs()
        further = np.where(table.domain_cluster == cluster.index, 0.0 if costs is None else costs, np.inf)
        row = draft._choose(spending, further)
        if row is None:
            budget.vain += 1
            break
        budget.left -= 1
        draft._reasons.note(row, costs, (), further, spending.rows if spending is not None else None)
        draft._gain(row, next(ordinals))
        if spending is not None:
            spending.pay(row)
        spread.add(row)
        lacking -= 1
    return lacking + beyond
