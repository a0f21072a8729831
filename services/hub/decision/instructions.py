"""What comes into the bridge and what it says is to be done.

An `Item` is an object by kind and name; work on one item is never done twice at the same time, so that instructions
for it are carried out in order. Every instruction may be repeated: the next decision starts from what is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from services.hub.decision.views import ClusterView, WorkloadView
from shared.events.v1.audit import ActionAudited
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.provisioning import ClusterApiProvision
from shared.events.v1.status import WorkloadStatus
from shared.kernel.machine import Instruction, Stimulus
from shared.model.identities import Resource, WorkloadKey
from shared.model.provisioning import Standing


class Item(NamedTuple):
    """A Cluster (without a namespace) or a Workload."""

    namespace: str
    name: str

    @classmethod
    def of(cls, key: WorkloadKey) -> Item:
        return cls(key.namespace, key.name)

    @property
    def is_cluster(self) -> bool:
        return not self.namespace

    @property
    def workload(self) -> WorkloadKey:
        return WorkloadKey(self.namespace, self.name)


class Source(StrEnum):
    """What must be known before anything is decided; `HEARTBEATS` only for clusters."""

    CLUSTERS = "clusters"
    WORKLOADS = "workloads"
    RECORDS = "records"
    HEARTBEATS = "heartbeats"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSeen(Stimulus):
    name: str
    view: ClusterView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSeen(Stimulus):
    key: WorkloadKey
    view: WorkloadView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSeen(Stimulus):
    key: WorkloadKey
    status: WorkloadStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSeen(Stimulus):
    """A record of `fleet.placements`; `ended_at` is the generation of a tombstone, if it says so."""

    key: WorkloadKey
    placement: PlacementPublished | None
    ended_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclarationSeen(Stimulus):
    """A record of `fleet.clusters`: what the hub itself declared, now or in an earlier life."""

    name: str
    declared: ClusterDeclared | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatSeen(Stimulus):
    cluster: str
    heartbeat: ClusterObserved | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionSeen(Stimulus):
    """What became of a `Provision`, or of a `Deprovision` (`ends`), for the Cluster of this uid."""

    name: str
    uid: str
    ends: bool
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp(Stimulus):
    """A source was read to the end that it had when the bridge began."""

    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAcknowledged(Stimulus):
    """The log has the request."""

    key: WorkloadKey
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due(Stimulus):
    """It is time to look at an item."""

    item: Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Instruction):
    """Feed `Due(item)` after a while; an earlier wish for the same item holds."""

    item: Item
    after_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest(Instruction):
    """To `fleet.requests`; `RequestAcknowledged` is to follow."""

    key: WorkloadKey
    request_id: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishDeclaration(Instruction):
    """To `fleet.clusters`; None is a tombstone."""

    name: str
    declared: ClusterDeclared | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishAudit(Instruction):
    """`event_id` is the same for a repeat."""

    event_id: str
    action: ActionAudited


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateObject(Instruction):
    """If it is there already, the watch will say so."""

    resource: Resource
    namespace: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceObject(Instruction):
    """`body` has the resource version that it was made from."""

    resource: Resource
    namespace: str
    name: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFinalizers(Instruction):
    resource: Resource
    namespace: str
    name: str
    resource_version: str
    finalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteObject(Instruction):
    resource: Resource
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStatus(Instruction):
    """The whole status, by server-side apply to the subresource of that very object."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    status: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision(Instruction):
    """At the management cluster, brought to what is wanted; its kubeconfig where agents look, when there is one.

    `ProvisionSeen` is to follow, some time.
    """

    name: str
    uid: str
    generation: int
    wanted: ClusterApiProvision


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprovision(Instruction):
    """The agents' kubeconfig is taken away and then, with `delete`, what the management cluster has of it."""

    name: str
    uid: str
    generation: int
    wanted: ClusterApiProvision
    delete: bool
