"""What the hub knows: the custom resources on one side, the fleet's records on the other.

All of it can be read again: from two lists and from compacted topics. What is kept beside that (requests that were
acknowledged, when a status was written) only saves work, and its loss in a crash costs a repeat that changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.hub.decision.instructions import Item, Source
from services.hub.decision.views import ClusterView, WorkloadView
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.status import Phase, WorkloadStatus
from shared.model.identities import WorkloadKey


@dataclass(frozen=True, slots=True)
class Policy:
    """`owned_namespace`: where Workloads of Clusters live. `status_interval_ms`: least time between two writes of one
    object's status. `refresh_ms`: how old measured values and the time of the last heartbeat may become.
    `answer_ms`: how long a request may go unanswered before the user is told. `delete_grace_ms`: how long a deletion
    waits for an answer about a workload that nobody seems to know. `late_heartbeats`: how many may be missing.
    `rejoin_ms`: how long a deleted Cluster is not shown again though it is heard.
    """

    owned_namespace: str = "default"
    status_interval_ms: int = 1_000
    refresh_ms: int = 60_000
    answer_ms: int = 5_000
    delete_grace_ms: int = 30_000
    late_heartbeats: int = 3
    rejoin_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class Pulse:
    """A heartbeat and when it was seen: by the hub's clock, unless it is from before the hub began."""

    heartbeat: ClusterObserved
    seen_ms: int

    def expires_ms(self, policy: Policy) -> int:
        return self.seen_ms + policy.late_heartbeats * self.heartbeat.interval_ms


@dataclass(slots=True)
class Sent:
    """A request in the log: when that was known, and whether the fleet answered since."""

    request_id: str
    at_ms: int
    answered: bool = False


class Counts:
    """Workloads by cluster, kept as statuses come."""

    def __init__(self) -> None:
        self._where: dict[WorkloadKey, tuple[frozenset[str], bool]] = {}
        self._totals: defaultdict[str, int] = defaultdict(int)
        self._running: defaultdict[str, int] = defaultdict(int)

    def update(self, key: WorkloadKey, status: WorkloadStatus | None) -> frozenset[str]:
        """Returns the clusters whose counts changed."""
        before = self._where.pop(key, (frozenset(), False))
        after: tuple[frozenset[str], bool] = (frozenset(), False)
        if status is not None:
            names = frozenset(part.cluster for part in status.clusters if part.counts.desired or part.counts.pods)
            after = (names, status.phase is Phase.RUNNING)
        if after[0]:
            self._where[key] = after
        self._add(before, -1)
        self._add(after, 1)
        if before[1] == after[1]:
            return before[0] ^ after[0]
        return before[0] | after[0]

    def of(self, cluster: str) -> tuple[int, int]:
        """All, and those that are Running."""
        return self._totals[cluster], self._running[cluster]

    def _add(self, where: tuple[frozenset[str], bool], step: int) -> None:
        for cluster in where[0]:
            self._totals[cluster] += step
            self._running[cluster] += step if where[1] else 0


@dataclass(slots=True)
class State:
    clusters: dict[str, ClusterView] = field(default_factory=dict)
    workloads: dict[WorkloadKey, WorkloadView] = field(default_factory=dict)
    statuses: dict[WorkloadKey, WorkloadStatus] = field(default_factory=dict)
    placements: dict[WorkloadKey, PlacementPublished] = field(default_factory=dict)
    declared: dict[str, ClusterDeclared] = field(default_factory=dict)
    pulses: dict[str, Pulse] = field(default_factory=dict)
    sent: dict[WorkloadKey, Sent] = field(default_factory=dict)
    status_written_ms: dict[Item, int] = field(default_factory=dict)
    deleted_ms: dict[str, int] = field(default_factory=dict)
    caught_up: set[Source] = field(default_factory=set)
    counts: Counts = field(default_factory=Counts)

    def ready_for(self, item: Item) -> bool:
        needed = set(Source) if item.is_cluster else set(Source) - {Source.HEARTBEATS}
        return needed <= self.caught_up

    def items(self) -> Iterator[Item]:
        """Everything there is something to say about."""
        for name in {*self.clusters, *self.declared, *self.pulses}:
            yield Item("", name)
        for key in {*self.workloads, *self.placements}:
            yield Item.of(key)
