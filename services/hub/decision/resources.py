"""The custom resources of the hub as models: what `deploy/crds` is generated from and what `/admit` checks with.

Specifications are strict (an unknown field is a typing error); a status is what the hub itself writes. Fields stand in
the order in which a person wants to read them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from shared.events.v1.clusters import HeadRoom, NodeGroup, NodeLimits, NodePrice
from shared.events.v1.provisioning import Provision
from shared.events.v1.scaling import Scaling
from shared.events.v1.vertical import Vertical
from shared.events.v1.workloads import MAX_OBJECT_NAME, MAX_POD_SETS, PlacementTerms, PodSet
from shared.model.base import StrictValue, Value
from shared.model.identities import Resource
from shared.model.names import DnsLabel, DnsSubdomain, LabelKey, LabelValue
from shared.model.taints import Taint

GROUP: Final = "cluster.k8s.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CLUSTERS: Final = Resource(GROUP, VERSION, "clusters")
WORKLOADS: Final = Resource(GROUP, VERSION, "workloads")

# Keeps a deleted Workload visible until the fleet has let go of it, and a Cluster that is provisioned until it is gone.
FINALIZER: Final = "cluster.k8s.io/flotilla"
# Says that the hub made the object because of what it saw in the fleet, and from where.
ORIGIN_LABEL: Final = "flotilla.dev/origin"
ORIGIN_TOPIC: Final = "topic"
ORIGIN_JOINED: Final = "joined"
# The fleet's own uid of a workload that is mirrored, so that a deletion never hits a later one of the same name.
WORKLOAD_UID_ANNOTATION: Final = "flotilla.dev/workload-uid"

WATCHED_RESOURCE: Final = r"^([a-z0-9.-]+/)?v[0-9][a-z0-9]*/[a-z0-9]+$"


class ClusterSpec(StrictValue):
    """What the fleet is told of a cluster, over what its own agents say of it."""

    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=64, description="labels of the cluster, for cluster selectors"
    )
    taints: tuple[Taint, ...] = Field(
        default=(), max_length=32, description="taints of the whole cluster: workloads need a matching toleration"
    )
    unschedulable: bool = Field(default=False, description="nothing new is placed on this cluster")
    price_per_hour: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="price of one node for an hour, in the fleet's currency"
    )
    node_prices: tuple[NodePrice, ...] = Field(
        default=(),
        max_length=64,
        description="prices of nodes with some labels instead; the first that applies counts",
    )
    node_groups: tuple[NodeGroup, ...] = Field(
        default=(), max_length=32, description="nodes that the autoscaler may ask for and give back"
    )
    head_room: HeadRoom | None = Field(
        default=None, description="room that its node groups keep; absent means as much as the fleet's settings say"
    )
    node_limits: NodeLimits | None = Field(default=None, description="what its node groups together may come to")
    watched_resources: tuple[Annotated[str, Field(pattern=WATCHED_RESOURCE, max_length=253)], ...] = Field(
        default=(), max_length=64, description="further resources to watch, as group/version/resource"
    )
    provision: Provision | None = Field(
        default=None, description="who makes the cluster, and how; absent where it is there by itself"
    )
    workloads: tuple[PodSet, ...] = Field(
        default=(),
        max_length=MAX_POD_SETS,
        description="what runs on this cluster: one Workload of the cluster's name, with a pod set for each entry",
    )

    @field_validator("node_groups")
    @classmethod
    def _unique_groups(cls, groups: tuple[NodeGroup, ...]) -> tuple[NodeGroup, ...]:
        names = [group.name for group in groups]
        if twice := next((name for index, name in enumerate(names) if name in names[:index]), None):
            raise ValueError(f"name {twice!r} is used twice")
        return groups

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _unique_names("workloads", self.workloads)
        return self


class WorkloadSpec(StrictValue):
    """Pod sets that belong together, and the terms on which they are placed."""

    priority: Annotated[int, Field(ge=-2_147_483_648, le=1_000_000_000)] = Field(
        default=0, description="what is more important is placed first, and may take the room of what is less"
    )
    priority_class: DnsSubdomain | None = Field(
        default=None, description="name of one of the fleet's priority classes, instead of a number"
    )
    preemption_policy: Literal["PreemptLowerPriority", "Never"] | None = Field(
        default=None,
        description="Never: waits for room, and takes none of what is less important; absent means as the class says",
    )
    queue: DnsLabel | None = Field(
        default=None,
        description="whose share it uses; absent means the queue of its namespace's name, if there is one, or default",
    )
    pod_sets: tuple[PodSet, ...] = Field(min_length=1, max_length=MAX_POD_SETS, description="what runs")
    placement: PlacementTerms = Field(default=PlacementTerms(), description="where it may run")
    scaling: Scaling | None = Field(
        default=None, description="replicas follow what is measured; absent means as many as were asked for"
    )
    vertical: Vertical | None = Field(
        default=None, description="requests follow what is used; absent means as stated, and what is used is shown only"
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _unique_names("podSets", self.pod_sets)
        return self


def _unique_names(field: str, pod_sets: tuple[PodSet, ...]) -> None:
    seen: set[str] = set()
    for index, pod_set in enumerate(pod_sets):
        if pod_set.name in seen:
            raise ValueError(f"{field}.{index}.name {pod_set.name!r} is used twice")
        seen.add(pod_set.name)


def object_name_error(field: str, owner: str, pod_sets: tuple[PodSet, ...]) -> str | None:
    """What is wrong with `<owner>-<pod set>`, which names the objects in the clusters; None if nothing."""
    for index, pod_set in enumerate(pod_sets):
        if len(owner) + 1 + len(pod_set.name) > MAX_OBJECT_NAME:
            return (
                f"{field}.{index}.name: {owner}-{pod_set.name} is longer than {MAX_OBJECT_NAME} characters, "
                "the limit for names of objects in the clusters"
            )
    return None


class ConditionView(Value):
    """`metav1.Condition`."""

    type: str = Field(max_length=316)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(max_length=1024)
    message: str = Field(max_length=32768)
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    observed_generation: int | None = Field(default=None, ge=0)


class WorkloadCounts(Value):
    """Workloads that have replicas in this cluster."""

    total: int = Field(default=0, ge=0)
    running: int = Field(default=0, ge=0)


class ClusterSummary(Value):
    """Texts for the columns of `kubectl get`."""

    nodes: str | None = Field(default=None, description="ready/all")
    cpu: str | None = Field(default=None, description="measured use of what is allocatable")
    memory: str | None = Field(default=None, description="measured use of what is allocatable")
    location: str | None = Field(default=None, description="provider/region")
    node_groups: str | None = Field(default=None, description="name and limits of each node group")
    provision: str | None = Field(default=None, description="how far making or ending the cluster has come")


class ClusterStatusView(Value):
    """What the hub knows of a cluster. Measured values are refreshed at intervals, not at every heartbeat."""

    observed_generation: int = 0
    version: str | None = Field(default=None, description="version of the cluster's API server")
    provider: str | None = None
    region: str | None = None
    nodes: int | None = None
    nodes_ready: int | None = None
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None
    usage: dict[str, str] | None = Field(default=None, description="measured, where metrics.k8s.io answers")
    last_heartbeat: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="a recent heartbeat; refreshed at intervals",
    )
    workloads: WorkloadCounts | None = None
    summary: ClusterSummary | None = None
    conditions: tuple[ConditionView, ...] = Field(default=(), json_schema_extra={"x-list-map": ["type"]})


class PodSetStatusView(Value):
    """Replicas of one pod set."""

    name: str
    desired: int = 0
    placed: int = 0
    pods: int = 0
    running: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0


class WorkloadClusterView(Value):
    """One cluster's part of the workload. `applied`: its executor reported the wanted generation."""

    cluster: str
    desired: int = 0
    placed: int = 0
    pods: int = 0
    running: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    applied: bool = False
    reason: str | None = None
    message: str | None = None


class WorkloadSummary(Value):
    """Texts for the columns of `kubectl get`."""

    clusters: str | None = None


class WorkloadStatusView(Value):
    """The status of the workload in the fleet."""

    observed_generation: int = Field(default=0, description="the generation that the fleet answered last")
    request_id: str | None = Field(default=None, description="event id of the request that was answered last")
    uid: str | None = Field(default=None, description="the fleet's own uid of the workload")
    phase: str | None = Field(
        default=None,
        description="Accepted, Pending, Scheduled, Applied, Running, Degraded, Succeeded, Failed, Rejected or Deleted",
    )
    reason: str | None = None
    message: str | None = None
    ready: str | None = Field(default=None, description="ready/desired replicas")
    replicas: int | None = Field(default=None, description="desired replicas over the fleet")
    ready_replicas: int | None = None
    summary: WorkloadSummary | None = None
    pod_sets: tuple[PodSetStatusView, ...] = Field(default=(), json_schema_extra={"x-list-map": ["name"]})
    clusters: tuple[WorkloadClusterView, ...] = Field(default=(), json_schema_extra={"x-list-map": ["cluster"]})
    conditions: tuple[ConditionView, ...] = Field(default=(), json_schema_extra={"x-list-map": ["type"]})
