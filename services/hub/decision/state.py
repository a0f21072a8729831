"""What the hub knows: the custom resources on one side, the fleet's records on the other.

All of it can be read again: from two lists and from compacted topics. What is kept beside that (requests that were
acknowledged, when a status was written) only saves work, and its loss in a crash costs a repeat that changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.hub.decision.instructions import Deprovision, Item, Provision, ProvisionSeen, Source
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

    `provision`: whether clusters are made at all. `provision_ms` and `provision_busy_ms`: how often the management
    cluster is asked about one at which nothing, or something, is to be done. `settle_ms`: how long a cluster is closed
    before it is believed that nothing more comes to it. `drain_ms`: what has not begun to leave it by then is told to
    wait for room. `leave_ms`: the longest wait for agents to leave.
    """

    owned_namespace: str = "default"
    status_interval_ms: int = 1_000
    refresh_ms: int = 60_000
    answer_ms: int = 5_000
    delete_grace_ms: int = 30_000
    late_heartbeats: int = 3
    rejoin_ms: int = 30_000
    provision: bool = True
    provision_ms: int = 60_000
    provision_busy_ms: int = 5_000
    settle_ms: int = 5_000
    drain_ms: int = 60_000
    leave_ms: int = 30_000


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


@dataclass(frozen=True, slots=True)
class Asked:
    """What the management cluster was asked about a Cluster last, and when."""

    uid: str
    generation: int
    ends: bool
    deletes: bool
    at_ms: int

    @classmethod
    def by(cls, ask: Provision | Deprovision, at_ms: int) -> Asked:
        deletes = isinstance(ask, Deprovision) and ask.delete
        return cls(ask.uid, ask.generation, isinstance(ask, Deprovision), deletes, at_ms)

    def is_again(self, ask: Provision | Deprovision) -> bool:
        """Whether this asks for the same."""
        return self == Asked.by(ask, self.at_ms)


class Counts:
    """Workloads by cluster, kept as statuses come."""

    def __init__(self) -> None:
        self._where: dict[WorkloadKey, tuple[frozenset[str], bool]] = {}
        self._keys: defaultdict[str, set[WorkloadKey]] = defaultdict(set)
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
        for name in before[0] - after[0]:
            self._keys[name].discard(key)
        for name in after[0] - before[0]:
            self._keys[name].add(key)
        if before[1] == after[1]:
            return before[0] ^ after[0]
        return before[0] | after[0]

    def of(self, cluster: str) -> tuple[int, int]:
        """All, and those that are Running."""
        return self._totals[cluster], self._running[cluster]

    def there(self, cluster: str) -> frozenset[WorkloadKey]:
        """Which they are."""
        return frozenset(self._keys[cluster])

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
    # Of Clusters that are provisioned: what was seen and asked last, since when one is closed, and told to leave.
    provisions: dict[str, ProvisionSeen] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    closed_ms: dict[str, int] = field(default_factory=dict)
    leaving_ms: dict[str, int] = field(default_factory=dict)
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
