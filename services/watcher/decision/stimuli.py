"""What happens to a watcher, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from shared.kernel.machine import Stimulus
from shared.model.identities import Resource


class Failure(Protocol):
    """Why a stream broke: the status code (0 for the network), a CamelCase reason and a sentence."""

    code: int
    reason: str
    message: str


class Step(Protocol):
    """One step of list and watch, as `shared.ports.cluster_api.Change` has it; `type` is the change type's text."""

    @property
    def type(self) -> str: ...
    @property
    def resource_version(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def uid(self) -> str: ...
    @property
    def error(self) -> Failure | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcesChosen(Stimulus):
    """These resources, and no others, are to be watched from now on."""

    resources: frozenset[Resource]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesArrived(Stimulus):
    """Some steps of one resource's list and watch, in order."""

    resource: Resource
    changes: Sequence[Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditStarted(Stimulus):
    """A list of a resource is about to be taken, to be compared with what was published."""

    resource: Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCompared(Stimulus):
    """The list named `listed`, of which `suspects` were not as published; it was taken at `version`."""

    resource: Resource
    version: str
    listed: AbstractSet[str]
    suspects: Mapping[str, Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCompared(Stimulus):
    """The log holds the objects of a resource as `read`; before it was read they had been published as `sent`."""

    resource: Resource
    sent: Mapping[str, str]
    read: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFailed(Stimulus):
    """A resource could not be compared this time."""

    resource: Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditClosed(Stimulus):
    """Every resource had its turn: the next heartbeats say what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProbed(Stimulus):
    """The API server was asked for its version: it answered, or `error` says why not."""

    version: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageMeasured(Stimulus):
    """The sum over all nodes, as `metrics.k8s.io` says: thousandths of a core and bytes. None: no metrics."""

    cpu: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDescribed(Stimulus):
    """The labels that people gave this cluster."""

    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatDue(Stimulus):
    """It is time to say that this watcher lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLeft(Stimulus):
    """The cluster has left the fleet: nothing of it is to remain."""
