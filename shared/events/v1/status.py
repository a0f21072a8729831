"""`fleet.status` (the latest of each workload) and `fleet.events` (its history)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from shared.model.base import Value


class Phase(StrEnum):
    """Accepted → Scheduled → Applied → Running, and what else may become of a workload."""

    ACCEPTED = "Accepted"  # valid, and part of the desired state
    PENDING = "Pending"  # replicas wait for room; the condition Scheduled says why
    SCHEDULED = "Scheduled"  # every replica has a place
    APPLIED = "Applied"  # every cluster has what it should run
    RUNNING = "Running"  # every replica is ready
    DEGRADED = "Degraded"  # was running, and has fewer ready replicas than it should
    SUCCEEDED = "Succeeded"  # all pods ran to their end
    FAILED = "Failed"  # cannot go on without a change
    REJECTED = "Rejected"  # the request was refused
    DELETED = "Deleted"  # gone from every cluster


class Condition(Value):
    """As `metav1.Condition`; times are Unix milliseconds."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_at: int


class Counts(Value):
    """Replicas of one pod set, over the fleet or in one cluster."""

    desired: int = 0
    placed: int = 0
    pods: int = 0
    running: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0


class Template(Value):
    """What the pods of a pod set are made from, and the generation (an offset of the journal) that last changed it."""

    digest: str
    generation: int = 0


class PodSetStatus(Value):
    """`template` is told of the workload as a whole, not of each cluster."""

    name: str
    counts: Counts
    template: Template | None = None


class ClusterStatus(Value):
    """One cluster's part. `generation` is what its executor reported last; `applied` that it is the wanted one.

    `digest` is that of what it applied, as objects carry it in `flotilla.dev/digest`; empty where it is not known.

    `stale`: the cluster's watcher is silent, or the cluster left. How many pods there are is as it was last seen, and
    none of them counts as running or ready.
    """

    cluster: str
    counts: Counts
    pod_sets: tuple[PodSetStatus, ...] = ()
    generation: int | None = None
    applied: bool = False
    stale: bool = False
    reason: str = ""
    message: str = ""
    digest: str = ""


class Milestones(Value):
    """When the workload's present generation first reached each hop, in Unix milliseconds."""

    requested_at: int | None = None
    decided_at: int | None = None
    applied_at: int | None = None
    running_at: int | None = None


class WorkloadStatus(Value):
    namespace: str
    name: str
    uid: str = ""
    phase: Phase
    generation: int = Field(description="offset of the decision in the journal that this describes")
    workload_generation: int = 0
    request_id: str = ""
    desired: int = 0
    ready: int = 0
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    pod_sets: tuple[PodSetStatus, ...] = ()
    clusters: tuple[ClusterStatus, ...] = ()
    milestones: Milestones = Milestones()
    step: int = Field(default=0, description="counts the phase changes; the last one in `fleet.events` has the same")
    updated_at: int


class WorkloadPhaseChanged(Value):
    """One step in a workload's history."""

    namespace: str
    name: str
    uid: str = ""
    previous: Phase | None = None
    phase: Phase
    reason: str = ""
    message: str = ""
    generation: int
    workload_generation: int = 0
    request_id: str = ""
    step: int = Field(default=0, description="numbers the changes of one workload, without gaps")
    changed_at: int = Field(description="Unix milliseconds")
