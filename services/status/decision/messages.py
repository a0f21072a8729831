"""What the machine is told, and what it says is to be done.

Stimuli of the log carry the position of their record as id and its time; `TimeAdvanced` promises that everything the
log held at `at_ms` has been seen, so that silence at `at_ms` is silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.status.decision.facts import NodesFacts, OwnedFacts, PodFacts, ScalingFacts
from services.status.decision.plan import Placement
from services.status.decision.values import WorkloadStatus
from shared.events.v1.inventories import InventoryReported
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.read_model import ClusterView
from shared.events.v1.results import CommandReported
from shared.events.v1.status import WorkloadPhaseChanged
from shared.kernel.machine import Instruction, Stimulus


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRestored(Stimulus):
    """A status that was published before a restart; None for a tombstone."""

    key: str
    status: WorkloadStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRestored(Stimulus):
    """A phase change that was published before a restart, perhaps without the status that goes with it."""

    key: str
    event: WorkloadPhaseChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSeen(Stimulus):
    """The latest decision on a workload; None for a tombstone.

    `ended_at` is the generation of the tombstone, if it says so. With `restored` it was seen before a restart: it is
    state and no news, and only the last one of a key counts.
    """

    key: str
    placement: Placement | None
    restored: bool = False
    ended_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSeen(Stimulus):
    """What the autoscaler said of a workload; None for a tombstone."""

    key: str
    scaling: ScalingFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesAwaitedSeen(Stimulus):
    """Whether nodes come for a workload that waits for room; None for a tombstone."""

    key: str
    nodes: NodesFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSeen(Stimulus):
    """An executor's report on a workload. `partition` and `offset` say from where to read it again."""

    key: str
    report: CommandReported
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen(Stimulus):
    """A pod of a workload; None: it is gone, or no longer anyone's."""

    key: str
    cluster: str
    pod: PodFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedObjectSeen(Stimulus):
    """A Deployment, StatefulSet, DaemonSet or Job of a workload; None: it is gone."""

    key: str
    cluster: str
    owned: OwnedFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatSeen(Stimulus):
    """A watcher's heartbeat, heard at `at_ms`; None, its tombstone: the cluster left."""

    cluster: str
    observed: ClusterObserved | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InventorySeen(Stimulus):
    """What a cluster's executor says that it holds; None: nothing is known of it any more."""

    cluster: str
    inventory: InventoryReported | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewCompared(Stimulus):
    """What was read of a resource of a cluster is what its watcher published, or is not: in numbers of objects."""

    cluster: str
    resource: str
    equal: bool
    expected: int
    found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnded(Stimulus):
    """A batch was read: statuses are computed now, once for each workload that it touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp(Stimulus):
    """After a start: everything that the log held at `at_ms` has been seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAdvanced(Stimulus):
    """It is `at_ms`, and everything that the log held then has been seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPhaseChange(Instruction):
    key: str
    event: WorkloadPhaseChanged
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishStatus(Instruction):
    """To `fleet.status` and into the read model; without a status a tombstone."""

    key: str
    status: WorkloadStatus | None
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCluster(Instruction):
    """Into the read model's table of clusters; None: the cluster left."""

    cluster: str
    view: ClusterView | None


class Hop(StrEnum):
    DECIDED = "requested_to_decided"
    APPLIED = "decided_to_applied"
    RUNNING = "applied_to_running"


@dataclass(frozen=True, slots=True, kw_only=True)
class HopMeasured(Instruction):
    """A workload's generation first reached a hop, so long after the one before."""

    hop: Hop
    milliseconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReached(Instruction):
    """A workload runs since `running_at`: the shell measures how long it took to say so."""

    key: str
    running_at: int


StatusStimulus = (
    StatusRestored
    | PhaseRestored
    | PlacementSeen
    | ScalingSeen
    | NodesAwaitedSeen
    | ResultSeen
    | PodSeen
    | OwnedObjectSeen
    | HeartbeatSeen
    | InventorySeen
    | ViewCompared
    | BatchEnded
    | CaughtUp
    | TimeAdvanced
)
StatusInstruction = PublishPhaseChange | PublishStatus | WriteCluster | HopMeasured | RunningReached
