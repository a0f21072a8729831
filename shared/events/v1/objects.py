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
# The reason of a heartbeat whose watcher is well, and whose API server does not answer.
UNREACHABLE: Final = "ApiUnreachable"


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
    """A list of one resource began or ended. `finished` is also said again from time to time, without a list.

    `objects` and `digest` tell what a reader from the start holds of this resource in this cluster when it has read up
    to here: whoever holds something else has missed a record. Only a marker that was not yet there when the reading
    began tells that: of what stood there before, compaction may have removed some.
    """

    cluster: str
    resource: str = Field(description="group/version/resource")
    phase: Literal["started", "finished"]
    epoch: int
    resource_version: str = ""
    objects: int | None = None
    digest: str = Field(
        default="",
        description="sum modulo 2^128 of the BLAKE2b-128 hashes of `<namespace or ->/<name>\\0<uid>/<resourceVersion>` "
        "of all objects, in hexadecimal; empty where it is not known",
    )


class ObjectsAudited(Value):
    """The last comparison of a cluster with what the log has of it, resource by resource.

    What differed was published again.
    """

    finished_at: int = Field(description="Unix milliseconds")
    objects: int = Field(description="that were compared")
    unlike_cluster: int = Field(default=0, description="objects that the watches had missed")
    unlike_log: int = Field(default=0, description="records that the log did not have, or had otherwise")
    unlike: tuple[str, ...] = Field(default=(), description="the resources with differences")
    unchecked: tuple[str, ...] = Field(default=(), description="resources that could not be compared")


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
    audited: ObjectsAudited | None = Field(default=None, description="absent until the first comparison is complete")
