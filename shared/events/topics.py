"""Every topic, in one place: name, key, partitions, cleanup, messages, who writes and who reads.

The broker's topics, the ACL file, `docs/asyncapi.yaml` and the JSON Schemas are made from this module
(`make gen`). Automatic topic creation is off: a topic that is not here does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from pydantic import BaseModel

from shared.events.v1 import (
    audit,
    clusters,
    commands,
    decisions,
    discrepancies,
    inventories,
    metrics,
    node_decisions,
    node_groups,
    objects,
    placements,
    requests,
    requests_decisions,
    results,
    sampling,
    scaling,
    scaling_decisions,
    status,
    usage,
    waiting,
)
from shared.model.identities import heartbeat_key

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Cleanup(StrEnum):
    COMPACT = "compact"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class MessageType:
    """A CloudEvents type and the model of its body. `key` overrides the topic's key, where it differs."""

    ce_type: str
    model: type[BaseModel]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention_ms` applies to `delete`; `by_cluster` partitions by cluster, whatever the key."""

    name: str
    description: str
    key: str
    partitions: int
    cleanup: Cleanup
    messages: tuple[MessageType, ...]
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    retention_ms: int = -1
    by_cluster: bool = False
    dead_letters: bool = False
    tombstones: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def config(self) -> dict[str, str]:
        """The broker's configuration of this topic, replication apart."""
        config = {"cleanup.policy": self.cleanup.value, "compression.type": "producer", **self.extra}
        if self.cleanup is Cleanup.DELETE:
            config["retention.ms"] = str(self.retention_ms)
        else:
            # A reader that was away for a day still sees every tombstone.
            config["delete.retention.ms"] = str(DAY_MS)
            config["max.compaction.lag.ms"] = str(DAY_MS)
        return config


MAX_REQUEST_BYTES = 512 * 1024
# By principal, what the names of its sole publishers begin with: of each name the broker lets only the newest write.
SOLE_WRITERS = {
    "scheduler": "flotilla-scheduler-",
    "status": "flotilla-status",
    "watcher": "flotilla-watcher-",
    "hub": "flotilla-hub",
    "autoscaler": "flotilla-autoscaler",
}

# Requests may be larger than what is accepted, so that they are refused with a reason rather than by the broker.
_LARGE = {"max.message.bytes": str(4 * 1024 * 1024)}

REQUESTED = MessageType("fleet.workload.requested.v1", requests.WorkloadRequested)
CLUSTER_DECLARED = MessageType("fleet.cluster.declared.v1", clusters.ClusterDeclared)
OBJECT_OBSERVED = MessageType("fleet.object.observed.v1", objects.ObjectObserved)
OBJECT_DELETED_TYPE = "fleet.object.deleted.v1"
SYNC_MARKED = MessageType(
    "fleet.sync.marked.v1", objects.SyncMarked, key="<cluster>/-/sync/<group>/<version>/<resource>"
)
CLUSTER_OBSERVED = MessageType("fleet.cluster.observed.v1", objects.ClusterObserved, key=heartbeat_key("<cluster>"))
DISCREPANCY_FOUND = MessageType("fleet.discrepancy.found.v1", discrepancies.DiscrepancyFound)
NODE_METRICS_SAMPLED = MessageType("fleet.nodemetrics.sampled.v1", metrics.NodeMetricsSampled, key="<cluster>/nodes")
POD_METRICS_SAMPLED = MessageType("fleet.podmetrics.sampled.v1", metrics.PodMetricsSampled, key="<cluster>/pods")
ASKED_METRICS_SAMPLED = MessageType("fleet.askedmetrics.sampled.v1", metrics.AskedMetricsSampled, key="<cluster>/asked")
SAMPLING_REQUESTED = MessageType("fleet.sampling.requested.v1", sampling.SamplingRequested)
WORKLOAD_SCALED = MessageType("fleet.workload.scaled.v1", scaling.WorkloadScaled)
USAGE_LEARNED = MessageType("fleet.usage.learned.v1", usage.UsageLearned)
NODE_GROUP_PLANNED = MessageType("fleet.nodegroup.planned.v1", node_groups.NodeGroupPlanned)
NODES_PLANNED = MessageType("fleet.nodes.planned.v1", node_groups.NodesPlanned, key=node_groups.PLAN_KEY)
NODES_AWAITED = MessageType("fleet.nodes.awaited.v1", waiting.NodesAwaited)
EPOCH_STARTED = MessageType("fleet.epoch.started.v1", decisions.EpochStarted)
DECISIONS_MADE = MessageType("fleet.decisions.made.v1", decisions.DecisionsMade)
NODES_DECIDED = MessageType("fleet.nodes.decided.v1", node_decisions.NodesDecided, key=node_groups.PLAN_KEY)
REQUESTS_DECIDED = MessageType(
    "fleet.requests.decided.v1", requests_decisions.RequestsDecided, key="<namespace>/<name>"
)
SCALING_DECIDED = MessageType("fleet.scaling.decided.v1", scaling_decisions.ScalingDecided, key="<namespace>/<name>")
PLACEMENT_PUBLISHED = MessageType("fleet.placement.published.v1", placements.PlacementPublished)
COMMAND_ISSUED = MessageType("fleet.command.issued.v1", commands.CommandIssued)
COMMAND_REPORTED = MessageType("fleet.command.reported.v1", results.CommandReported)
INVENTORY_REPORTED = MessageType("fleet.inventory.reported.v1", inventories.InventoryReported)
STATUS_CHANGED = MessageType("fleet.status.changed.v1", status.WorkloadStatus)
PHASE_CHANGED = MessageType("fleet.phase.changed.v1", status.WorkloadPhaseChanged)
ACTION_AUDITED = MessageType("fleet.action.audited.v1", audit.ActionAudited)

REQUESTS = Topic(
    "fleet.requests",
    "Workload requests: what users want to run.",
    key="<namespace>/<name>",
    partitions=8,
    cleanup=Cleanup.DELETE,
    retention_ms=7 * DAY_MS,
    messages=(REQUESTED,),
    written_by=("users", "hub", "cli"),
    read_by=("scheduler",),
    dead_letters=True,
    extra=_LARGE,
)
CLUSTERS = Topic(
    "fleet.clusters",
    "Clusters that were declared on the hub.",
    key="<cluster>",
    partitions=1,
    cleanup=Cleanup.COMPACT,
    messages=(CLUSTER_DECLARED,),
    written_by=("hub",),
    read_by=("scheduler", "autoscaler", "watcher", "status", "hub", "simulator"),
    dead_letters=True,
    tombstones="the declaration was taken back",
)
OBJECTS = Topic(
    "fleet.objects",
    "What exists in every cluster. Read from the start, it ends with exactly the objects that exist.",
    key="<cluster>/<group or core>/<version>/<resource>/<namespace or ->/<name>",
    partitions=8,
    cleanup=Cleanup.COMPACT,
    messages=(OBJECT_OBSERVED, SYNC_MARKED, CLUSTER_OBSERVED),
    written_by=("watcher",),
    read_by=("scheduler", "autoscaler", "status", "hub", "watcher", "backup"),
    by_cluster=True,
    dead_letters=True,
    tombstones="the object is gone",
    extra=_LARGE,
)
DISCREPANCIES = Topic(
    "fleet.discrepancies",
    "What is in `fleet.objects` is not what its watcher published: to be published again.",
    key="<cluster>/<group>/<version>/<resource>",
    partitions=1,
    cleanup=Cleanup.DELETE,
    retention_ms=DAY_MS,
    messages=(DISCREPANCY_FOUND,),
    written_by=("status",),
    read_by=("watcher",),
)
METRICS = Topic(
    "fleet.metrics",
    "Measured use of nodes and pods, and what else workloads are scaled by.",
    key="<cluster>/<scope>",
    partitions=8,
    cleanup=Cleanup.DELETE,
    retention_ms=6 * HOUR_MS,
    messages=(NODE_METRICS_SAMPLED, POD_METRICS_SAMPLED, ASKED_METRICS_SAMPLED),
    written_by=("watcher",),
    read_by=("scheduler", "autoscaler"),
    by_cluster=True,
    dead_letters=True,
)
SAMPLING = Topic(
    "fleet.sampling",
    "What watchers are to measure beside cpu and memory, because workloads are scaled by it.",
    key="<namespace>/<name>",
    partitions=1,
    cleanup=Cleanup.COMPACT,
    messages=(SAMPLING_REQUESTED,),
    written_by=("autoscaler",),
    read_by=("watcher", "autoscaler"),
    dead_letters=True,
    tombstones="the workload is gone, or is scaled by none of these",
)
SCALING = Topic(
    "fleet.scaling",
    "How many replicas each scaled workload should have, and why.",
    key="<namespace>/<name>",
    partitions=8,
    cleanup=Cleanup.COMPACT,
    messages=(WORKLOAD_SCALED,),
    written_by=("autoscaler",),
    read_by=("scheduler", "status", "autoscaler", "cli"),
    dead_letters=True,
    tombstones="the workload is gone, or is scaled no more",
)
USAGE = Topic(
    "fleet.usage",
    "What the autoscaler has learned of workloads over days, and what their containers should request by it.",
    key="<namespace>/<name>",
    partitions=8,
    cleanup=Cleanup.COMPACT,
    messages=(USAGE_LEARNED,),
    written_by=("autoscaler",),
    read_by=("autoscaler", "cli"),
    tombstones="the workload is gone, or nothing is learned of it any more",
)
NODE_GROUPS = Topic(
    "fleet.nodegroups",
    "How many nodes each node group should have, and why.",
    key="<cluster>/<group>",
    # In one order: what a record says of the inputs holds for all before it.
    partitions=1,
    cleanup=Cleanup.COMPACT,
    messages=(NODE_GROUP_PLANNED, NODES_PLANNED),
    written_by=("autoscaler",),
    read_by=("autoscaler", "cli"),
    tombstones="the group is declared no more",
)
WAITING = Topic(
    "fleet.waiting",
    "Of workloads that wait for room: whether nodes come for them, and if not, why.",
    key="<namespace>/<name>",
    partitions=1,
    cleanup=Cleanup.COMPACT,
    messages=(NODES_AWAITED,),
    written_by=("autoscaler",),
    read_by=("status", "autoscaler", "cli"),
    dead_letters=True,
    tombstones="the workload is gone, or waits for room no more",
)
DECISIONS = Topic(
    "fleet.decisions",
    "The journal: one partition for each cell, with one leader; in the first also what the autoscaler decides.",
    key="",
    partitions=1,
    cleanup=Cleanup.DELETE,
    retention_ms=14 * DAY_MS,
    messages=(EPOCH_STARTED, DECISIONS_MADE, SCALING_DECIDED, REQUESTS_DECIDED, NODES_DECIDED),
    written_by=("scheduler", "autoscaler"),
    read_by=("scheduler", "autoscaler", "cli"),
    extra={"max.message.bytes": str(16 * 1024 * 1024)},
)
PLACEMENTS = Topic(
    "fleet.placements",
    "The latest decision for every workload.",
    key="<namespace>/<name>",
    partitions=8,
    cleanup=Cleanup.COMPACT,
    messages=(PLACEMENT_PUBLISHED,),
    written_by=("scheduler",),
    read_by=("scheduler", "autoscaler", "status", "hub", "cli"),
    dead_letters=True,
    tombstones="the workload is gone; void if older by `fleet_seq`",
    # Rejections of workloads that never were are followed by a tombstone: compaction leaves them an hour.
    extra={"max.message.bytes": str(16 * 1024 * 1024), "min.compaction.lag.ms": str(HOUR_MS)},
)
RESULTS = Topic(
    "fleet.results",
    "What the executors did with their commands.",
    key="<cluster>/<subject>",
    partitions=8,
    cleanup=Cleanup.DELETE,
    retention_ms=7 * DAY_MS,
    messages=(COMMAND_REPORTED,),
    written_by=("executor",),
    read_by=("status", "scheduler", "autoscaler"),
    by_cluster=True,
    dead_letters=True,
)
INVENTORIES = Topic(
    "fleet.inventories",
    "All that each cluster's executor holds, again and again: what was asked can be compared with it.",
    key="<cluster>",
    partitions=1,
    cleanup=Cleanup.COMPACT,
    messages=(INVENTORY_REPORTED,),
    written_by=("executor",),
    read_by=("scheduler", "status"),
    dead_letters=True,
    tombstones="nothing is known of the cluster any more",
    extra={"max.message.bytes": str(16 * 1024 * 1024)},
)
STATUS = Topic(
    "fleet.status",
    "The latest status of every workload.",
    key="<namespace>/<name>",
    partitions=8,
    cleanup=Cleanup.COMPACT,
    messages=(STATUS_CHANGED,),
    written_by=("status",),
    read_by=("users", "hub", "status", "cli", "autoscaler"),
    dead_letters=True,
    tombstones="the workload is gone and its last status was published long enough ago",
)
EVENTS = Topic(
    "fleet.events",
    "Every phase that a workload went through.",
    key="<namespace>/<name>",
    partitions=8,
    cleanup=Cleanup.DELETE,
    retention_ms=7 * DAY_MS,
    messages=(PHASE_CHANGED,),
    written_by=("status",),
    read_by=("users", "status", "cli"),
)
AUDIT = Topic(
    "fleet.audit",
    "Who did what through the hub or the command line.",
    key="<actor>",
    partitions=1,
    cleanup=Cleanup.DELETE,
    retention_ms=365 * DAY_MS,
    messages=(ACTION_AUDITED,),
    written_by=("hub", "cli"),
    read_by=("security",),
)

COMMANDS_PREFIX = "fleet.commands."


@lru_cache(maxsize=4096)
def commands_topic(cluster: str) -> Topic:
    """The command topic of one cluster: only its own executor may read it."""
    return Topic(
        f"{COMMANDS_PREFIX}{cluster}",
        "All that one cluster should run.",
        key="<subject>",
        partitions=1,
        cleanup=Cleanup.COMPACT,
        messages=(COMMAND_ISSUED,),
        written_by=("scheduler", "autoscaler", "backup"),
        read_by=(f"executor of {cluster}",),
        tombstones="the subject is gone from this cluster, as its executor confirmed; void if older by `fleet_seq`",
        # An executor writes the fence of a repeat to its cluster a while later: until then the topic alone has it.
        extra={"max.message.bytes": str(16 * 1024 * 1024), "min.compaction.lag.ms": str(5 * MINUTE_MS)},
    )


def dead_letter_topic(topic: Topic) -> Topic:
    """Where a consumer puts the bytes that it refused, with the reason in the headers."""
    return Topic(
        f"{topic.name}.dlq",
        f"Records of {topic.name} that were refused, byte for byte, with the reason in their headers.",
        key="as the original",
        partitions=1,
        cleanup=Cleanup.DELETE,
        retention_ms=30 * DAY_MS,
        messages=(),
        # What people look at they refuse nothing of.
        written_by=tuple(reader for reader in topic.read_by if reader != "cli"),
        read_by=("operators",),
        extra=dict(_LARGE),
    )


_BASE = (
    REQUESTS, CLUSTERS, OBJECTS, DISCREPANCIES, METRICS, SAMPLING, SCALING, USAGE, NODE_GROUPS, WAITING, DECISIONS,
    PLACEMENTS, RESULTS, INVENTORIES, STATUS, EVENTS, AUDIT,
)  # fmt: skip

# Every topic but the command topics, which come and go with their clusters.
ALL_TOPICS: tuple[Topic, ...] = (
    *_BASE,
    *(dead_letter_topic(topic) for topic in _BASE if topic.dead_letters),
)
