"""What happens to a watcher, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
