"""`fleet.commands.<cluster>`: all that a cluster should run, a record for each subject.

Commands are desired state. An executor applies the newest generation of a subject, deletes only on `withdraw`,
never because a record is missing, and forgets a subject at its tombstone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.events.v1.clusters import NodeProvider, NodeTemplate
from shared.events.v1.leases import LeaseGranted
from shared.events.v1.policies import is_empty
from shared.events.v1.workloads import Manifest
from shared.model.base import Value


class ManagedObject(Value):
    """One object to be applied as it stands."""

    pod_set: str
    manifest: Manifest


class PodBinding(Value):
    name: str
    node: str


class PodGroup(Value):
    """Pods of one shape that Flotilla binds itself: `manifest` without a name, and a name and a node for each."""

    pod_set: str
    manifest: Manifest
    bindings: tuple[PodBinding, ...]


class NodeGroupOrder(Value):
    """How many nodes a group should have, and which of those it has go."""

    group: str
    provider: NodeProvider
    template: NodeTemplate = Field(description="what the provider kwok makes nodes of")
    size: int = Field(ge=0, description="nodes that are to be there, those in `remove` not counted")
    remove: tuple[str, ...] = Field(
        default=(), description="names of nodes that are cordoned, emptied by evictions, and deleted with the provider"
    )


class CommandIssued(Value):
    """What one cluster should run of one subject."""

    cluster: str
    subject: str = Field(description="workload/<namespace>/<name> or nodegroup/<name>")
    namespace: str
    epoch: int
    generation: int = Field(
        description="offset of the decision in the journal; of a node group a number that only grows"
    )
    digest: str = Field(description="SHA-256 over action, objects and pods; equal content, equal digest")
    request_id: str = ""
    action: Literal["run", "withdraw"]
    objects: tuple[ManagedObject, ...] = ()
    pods: tuple[PodGroup, ...] = ()
    leased: bool = Field(
        default=False,
        exclude_if=is_empty,
        description="it runs only while the executor has a lease for it: when that is over it may start elsewhere",
    )
    lease: LeaseGranted | None = Field(
        default=None, exclude_if=is_empty, description="with subject `lease`: the answer to the executor's request"
    )
    node_group: NodeGroupOrder | None = Field(
        default=None,
        exclude_if=is_empty,
        description="with subject nodegroup/<name>: there are no objects and pods then",
    )
