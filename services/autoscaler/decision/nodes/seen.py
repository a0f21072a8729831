"""What is known of the fleet at one look, as far as node counts depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.autoscaler.decision.nodes.scheduling import Demand, PodFacts
from shared.model.taints import Taint


class GroupKey(NamedTuple):
    cluster: str
    name: str


class NodeKey(NamedTuple):
    cluster: str
    name: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What node groups together may come to: their price an hour, allocatable amounts as in the node table, and how
    many nodes.
    """

    price_per_hour: float | None = None
    amounts: Mapping[str, int] = field(default_factory=dict)
    nodes: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """`open` says whether it takes new pods now; `limits` are those of its node groups together."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    open: bool = True
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Template:
    """What a new node is like. `allocatable` as in the node table (cpu in thousandths, GPUs in devices, all else in its
    own unit), less what daemon sets take of it.
    """

    allocatable: Mapping[str, int]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    zone: str = ""


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes of one kind that a provider makes and deletes. `size` is what was asked of it last; `price` is of one node
    for an hour. Its owner's limits are `least` and `most`.
    """

    cluster: str
    name: str
    template: Template
    size: int
    most: int
    least: int = 0
    price: float = 0.0

    @property
    def key(self) -> GroupKey:
        return GroupKey(self.cluster, self.name)


@dataclass(frozen=True, slots=True)
class Pod:
    """One that runs. `key` is its own in the whole fleet. `facts` are what others may know of it: without, no rule
    between pods counts it. `daemon`: it goes with its node, whatever happens.

    `pinned` says why it may not be evicted, empty where it may. `budgets` are the keys of the
    disruption budgets that count it; `desired` as of a `PodSet`; `leaving`: it was deleted, and is about to go.
    """

    key: str
    demand: Demand
    facts: PodFacts | None = None
    daemon: bool = False
    pinned: str = ""
    budgets: tuple[str, ...] = ()
    ready: bool = True
    leaving: bool = False


# Why a pod is not to be evicted, in the words of its `pinned`.
LOCAL_STORAGE = "has local storage"
ANNOTATED = "must not be evicted, by its annotation"
UNOWNED = "would not be made anew: nothing owns it"
BY_VOLUME = "has a persistent volume, which may not follow it"
UNKNOWN = "asks for what cannot be read here"
EXPECTED = "was placed there just now"


@dataclass(frozen=True, slots=True)
class Node:
    """`group` is the name of its node group, empty where it has none. `allocatable` as of a template, but with what
    daemon sets take: their pods are among `pods`. `kept` says why it must not be removed, by its annotation; empty if
    it may.
    """

    cluster: str
    name: str
    allocatable: Mapping[str, int]
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    zone: str = ""
    price: float = 0.0
    ready: bool = True
    unschedulable: bool = False
    kept: str = ""
    pods: tuple[Pod, ...] = ()

    @property
    def key(self) -> NodeKey:
        return NodeKey(self.cluster, self.name)


@dataclass(frozen=True, slots=True)
class PodSet:
    """Pods of one kind that wait for nodes. `desired` and `placed` are of all its replicas: those that have a node
    already, by cluster and node, are what the rest is kept apart from. `requested_at` in ms, as of its workload.
    """

    key: str
    demand: Demand
    count: int
    priority: int = 0
    requested_at: int = 0
    desired: int = 0
    placed: tuple[NodeKey, ...] = ()
    facts: PodFacts | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """`pending` in any order, for they are tried in the scheduler's; `head_room` are pods for which there is to be room
    beside all that. `budgets`: how many ready pods may go now, by key.
    """

    clusters: tuple[Cluster, ...]
    groups: tuple[NodeGroup, ...]
    nodes: tuple[Node, ...] = ()
    pending: tuple[PodSet, ...] = ()
    head_room: tuple[PodSet, ...] = ()
    budgets: Mapping[str, int] = field(default_factory=dict)
