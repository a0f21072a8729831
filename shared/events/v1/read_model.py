"""The read model: the tables that the status service keeps in Redis, derived from the log and rebuilt from it at will.

`workloads`: key `namespace/name`, value `WorkloadStatus`, the same bytes as in `fleet.status`.
`clusters`: key cluster, value `ClusterView`.
"""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.objects import ClusterObserved
from shared.events.v1.status import Condition
from shared.model.base import Value

WORKLOADS_TABLE = "workloads"
CLUSTERS_TABLE = "clusters"


class ClusterView(Value):
    """A cluster as its watcher last described it, and what of the fleet is there.

    The counts are of Flotilla's own workloads, as of the last heartbeat or change of `silent`.
    """

    cluster: str
    observed: ClusterObserved
    heard_at: int = Field(description="Unix milliseconds, by the clock of the status service")
    silent: bool = Field(
        description="no heartbeat for more than three of its intervals: nothing here is known to be true"
    )
    ready: bool = Field(description="heard, its API server answers, and every resource is in sync")
    reason: str = ""
    message: str = ""
    workloads: int = Field(default=0, description="workloads with replicas placed here")
    replicas: int = Field(default=0, description="replicas placed here")
    pods: int = Field(default=0, description="pods of workloads that were observed here")
    pods_running: int = 0
    pods_ready: int = 0
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="ObjectsConsistent: the log has what the cluster has, and this view what the log has; "
        "CommandsConsistent: the cluster's executor holds what was asked. Unknown while nobody can tell",
    )
