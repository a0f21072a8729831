"""What is to be placed: the plan of each pod set, once what was asked has been understood and found to be valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.asked.labels import labels_of
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.overrides import PodSetOverrides
from services.scheduler.decision.table.neighbours import PodFacts
from services.scheduler.decision.table.rules import Term
from shared.events.v1.decisions import Requested, Scaled
from shared.events.v1.policies import DisruptionBudget, Rebalance
from shared.events.v1.workloads import PlacementTerms, Workload

# What a pod asks of a node with GPUs: cpu in thousandths, devices, thousandths of each.
GpuClass = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class GangPlan:
    """So many replicas start together or not at all, `minimum` or all; `with_others`: only if the other pod sets do."""

    minimum: int | None
    with_others: bool

    def needed(self, desired: int) -> int:
        return desired if self.minimum is None else min(self.minimum, desired)


@dataclass(frozen=True, slots=True)
class PodSetPlan:
    """What is to be placed. `desired` counts pods; of `EVERYWHERE` it is not known before the clusters are.

    `holds_room` says whether replicas hold room on nodes until their pods are seen. `overrides` is None where it is the
    same in all clusters, `sharing` where the terms say nothing of how replicas are shared out. `follows` are the pod
    sets to whose clusters this one goes, with division `FOLLOWS`. `labels` are those of the pod template, and `terms`
    what its pods want of others that are to run beside them. `gpus` is None where a pod asks for none. `budget` bounds
    how many make room for others. `rebalance` is None where nothing that runs moves to a better place. `price_limit` is
    what all replicas of the workload together may cost an hour. `scaled` is whose word `desired` is, if it is the
    autoscaler's; `requested` likewise of what its containers ask for, which `demand` has.
    """

    name: str
    division: Division
    desired: int
    demand: Demand
    holds_room: bool = True
    overrides: PodSetOverrides | None = field(default=None, compare=False)
    failback: bool = False
    follows: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] = ()
    sharing: PlacementTerms | None = None
    gang: GangPlan | None = None
    gpus: GpuClass | None = field(default=None, compare=False)
    # Whether the pod template names a priority class.
    names_class: bool = field(default=False, compare=False)
    # Whether it is one pod, of which nothing is said but which nodes and clusters may have it.
    single: bool = field(init=False, repr=False, compare=False)
    # Whether each eligible cluster has as many as are desired.
    duplicated: bool = field(init=False, repr=False, compare=False)
    # Whether it may be different as soon as clusters come, go, or have other labels.
    follows_clusters: bool = field(init=False, repr=False, compare=False)
    budget: DisruptionBudget | None = None
    rebalance: Rebalance | None = None
    price_limit: float | None = None
    scaled: Scaled | None = None
    requested: Requested | None = None

    def __post_init__(self) -> None:
        duplicated = self.sharing is not None and self.sharing.division == "duplicated"
        by_labels = self.overrides is not None and self.overrides.by_labels
        special = (self.sharing, self.overrides, self.gang, self.follows or None, self.rebalance, self.price_limit)
        divided = self.division in (Division.NODES, Division.DIVIDED)
        single = self.desired == 1 and divided and self.holds_room and special == (None,) * 6
        object.__setattr__(self, "single", single)
        object.__setattr__(self, "duplicated", duplicated)
        object.__setattr__(self, "follows_clusters", by_labels or duplicated or self.division is Division.EVERYWHERE)

    def facts(self, workload: Workload) -> PodFacts | None:
        """What others may know of the pods; None where a cluster's own scheduler decides where they are."""
        if self.division is not Division.NODES:
            return None
        return PodFacts(workload.namespace, _labels, (self, workload), self.terms)


def _labels(of: tuple[PodSetPlan, Workload]) -> Mapping[str, str]:
    plan, workload = of
    return labels_of(workload, plan.name, dict(plan.labels))
