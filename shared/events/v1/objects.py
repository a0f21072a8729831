"""`fleet.objects`: what exists in every cluster, as the watchers see it.

An object's record is the object as its API server wrote it, without `metadata.managedFields`; its key says
cluster and resource, its headers the watcher's epoch and sequence. A tombstone means that it is gone.
Between `SyncStarted` and `SyncFinished` of one resource stands every object of a list; what a list no longer
has is a tombstone before `SyncFinished`.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import ConfigDict, Field

from shared.model.base import Value

# The reason of a cluster's last heartbeat, before its tombstone: it is no member of the fleet any more.
LEFT: Final = "Left"


class ObjectMeta(Value):
    model_config = ConfigDict(extra="allow")

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class ObjectObserved(Value):
    """Any Kubernetes object."""

    model_config = ConfigDict(extra="allow")

    api_version: str
    kind: str
    metadata: ObjectMeta


class SyncMarked(Value):
    """A list of one resource began or ended. `objects` counts the list, once it ended."""

    cluster: str
    resource: str = Field(description="group/version/resource")
    phase: Literal["started", "finished"]
    epoch: int
    resource_version: str = ""
    objects: int | None = None


class ClusterObserved(Value):
    """A watcher's heartbeat. It stands behind everything that the watcher published before it."""

    cluster: str
    epoch: int = Field(description="the watcher's incarnation")
    observed_at: int = Field(description="Unix milliseconds")
    interval_ms: int = Field(description="the next heartbeat is due after this")
    kubernetes_version: str = ""
    ready: bool = Field(description="the API server answers and every resource is in sync")
    reason: str = ""
    message: str = ""
    labels: dict[str, str] = Field(default_factory=dict, description="region, provider and others")
    nodes: int = 0
    nodes_ready: int = 0
    capacity: dict[str, str] = Field(default_factory=dict)
    allocatable: dict[str, str] = Field(default_factory=dict)
    usage: dict[str, str] = Field(default_factory=dict, description="measured, where metrics.k8s.io answers")
