"""Which object: by group, kind, namespace and name, never by version.

An object served in two versions is one object. If identity held the version, a command that only moves a custom
resource from v1beta1 to v1 would prune what it has just applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, order=True)
class GroupKind:
    group: str
    kind: str

    @classmethod
    def of(cls, api_version: str, kind: str) -> Self:
        group, slash, _ = api_version.rpartition("/")
        return cls(group if slash else "", kind)

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


@dataclass(frozen=True, slots=True, order=True)
class ServedKind:
    """A kind and the version in which it was named; how a list is asked for."""

    api_version: str
    kind: str

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind.of(self.api_version, self.kind)


@dataclass(frozen=True, slots=True, order=True)
class ObjectId:
    """`namespace` is empty for what has none."""

    kind: GroupKind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


POD = GroupKind("", "Pod")
NAMESPACE = GroupKind("", "Namespace")
NODE = GroupKind("", "Node")
JOB = GroupKind("batch", "Job")

# What is listed at every start, whatever the commands name: the kinds that workloads are made of.
BASE_KINDS: tuple[ServedKind, ...] = (
    ServedKind("apps/v1", "Deployment"),
    ServedKind("apps/v1", "StatefulSet"),
    ServedKind("apps/v1", "DaemonSet"),
    ServedKind("apps/v1", "ReplicaSet"),
    ServedKind("batch/v1", "Job"),
    ServedKind("v1", "Pod"),
)
BASE_GROUP_KINDS = tuple(served.group_kind for served in BASE_KINDS)


@dataclass(frozen=True, slots=True, order=True)
class Feed:
    """What is listed and watched: the objects of a kind that Flotilla applied, or all of them."""

    kind: GroupKind
    owned: bool = True


NAMESPACES = Feed(NAMESPACE, owned=False)
NODES = Feed(NODE, owned=False)
