"""How the scheduler decides: weights and limits, fixed for the life of a state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Self

from services.scheduler.decision.asked.priorities import PriorityClass
from services.scheduler.decision.interface import CostPlugin, FilterPlugin


class Fit(StrEnum):
    """`most` fills nodes before it opens others, `least` levels them as kube-scheduler does by default."""

    MOST_ALLOCATED = "most"
    LEAST_ALLOCATED = "least"


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each cost term counts; each term is in [0, 1], and a replica goes where the sum is least.

    `fit` packs, so that large pods find room and empty nodes can be given back; `load` keeps away from nodes that
    are busy whatever was requested on them; `spread` outweighs the others for the replicas of one pod set, so that
    one lost cluster takes few of them. `node_affinity` (preferred) and `taints` (PreferNoSchedule) weigh what they
    weigh in kube-scheduler; `preferences` are a workload's for clusters. `expected_fragmentation` judges free GPUs by
    the pods that the fleet runs; it is off by default, and `GPU_POLICY` lets it decide. `pod_affinity` and
    `topology_spread` are of what is preferred. `images` is for large ones: pods of different images are not alike then,
    and share less work.
    """

    fit: float = 1.0
    balance: float = 0.5
    fragmentation: float = 1.0
    expected_fragmentation: float = 0.0
    load: float = 1.0
    price: float = 0.5
    spread: float = 2.0
    node_affinity: float = 2.0
    taints: float = 3.0
    pod_affinity: float = 4.0
    topology_spread: float = 2.0
    images: float = 0.0
    preferences: float = 4.0

    @classmethod
    def names(cls) -> frozenset[str]:
        return frozenset(item.name for item in fields(cls))

    @classmethod
    def from_mapping(cls, given: Mapping[str, float]) -> Self:
        """Defaults with some replaced. Raises ValueError for an unknown term or a negative weight."""
        known = cls.names()
        for name, weight in given.items():
            if name not in known:
                raise ValueError(f"{name!r} is not a cost term: want one of {', '.join(sorted(known))}")
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {name} must be zero or more, not {weight}")
        return cls(**given)


# A thousandth of a GPU weighs as much as another term as a whole: these decide where GPUs make no difference.
GPU_POLICY = Weights(balance=0.0, expected_fragmentation=16_000.0)


Amounts = tuple[tuple[str, int], ...]
DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Amounts are by resource, as in the node table: cpu and GPUs in thousandths, all else in its own unit."""

    name: str
    weight: float = 1.0
    guarantee: Amounts = ()
    limit: Amounts = ()

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"the weight of queue {self.name!r} must be more than zero, not {self.weight}")
        most = dict(self.limit)
        for resource, amount in self.guarantee:
            if amount > most.get(resource, amount):
                raise ValueError(f"queue {self.name!r} has a guarantee of {resource} that is more than its limit")


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Times are in milliseconds.

    A cluster is silent after `silent_after_intervals` of its heartbeat's interval, but not before
    `silent_after_ms`. A pod that its cluster cannot schedule for `move_after_ms` is placed elsewhere, and its pod
    set keeps away from that cluster for `avoid_ms`. What has to start together and has waited for
    `gang_patience_ms` has room kept for it. Of what waits for room and was asked for within one window of
    `largest_first_ms` the largest pods go first; 0 is none. One call places at most `placements_per_call` replicas, so
    that no workload, however large, holds up the others. `queues` are in the order of their names; without any, nothing
    is counted for them. `filters` and `costs` are a user's own, beside those that are built in; `priority_classes`
    are those of the fleet, by name.

    Evacuation: a cluster that is lost is tolerated for `tolerate_loss_ms` beyond its silence where a workload does not
    say for how long. Replicas are replaced at `evacuations_per_s`, and at most `evacuations_at_once` at a time wait for
    those that replace them, of one cluster `cluster_evacuations_at_once`. While `most_lost` of all clusters are lost at
    once it is the scheduler that is cut off, and nothing is evacuated for that. A cluster that is well again for
    `stable_ms` gets back what waited to leave it. What runs by a lease is taken to have ended `lease_margin_ms` after
    that is over and its pods have had their time to end.

    Rebalancing: `rebalances_per_minute` replicas of workloads that ask for it begin to move to better places, and as
    many are under way at most; one whose replacement is not ready after `rebalance_patience_ms` stays where it is.
    """

    weights: Weights = field(default_factory=Weights)
    fit: Fit = Fit.MOST_ALLOCATED
    default_price: float = 0.0
    gpu_resource: str = "nvidia.com/gpu"
    move_after_ms: int = 5_000
    avoid_ms: int = 60_000
    gang_patience_ms: int = 60_000
    largest_first_ms: int = 60_000
    silent_after_intervals: float = 3.0
    silent_after_ms: int = 9_000
    placements_per_call: int = 2_000
    tolerate_loss_ms: int = 5_000
    evacuations_per_s: float = 100.0
    evacuations_at_once: int = 1_000
    cluster_evacuations_at_once: int = 500
    most_lost: float = 0.55
    lease_margin_ms: int = 30_000
    stable_ms: int = 30_000
    rebalances_per_minute: float = 30.0
    rebalance_patience_ms: int = 300_000
    cached_profiles: int = 1_024
    priority_classes: Mapping[str, PriorityClass] = field(default_factory=dict)
    queues: tuple[QueueConfig, ...] = ()
    filters: tuple[FilterPlugin, ...] = ()
    costs: tuple[CostPlugin, ...] = ()
