"""What the log says while a workload surges: its replicas, which pod is on which node, how large node groups are, and
what they cost. All of it by plain counting, beside the services' own code.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import orjson

from shared.events.registry import decode
from shared.events.topics import NODE_GROUPS, OBJECTS, SCALING, STATUS
from shared.events.v1.node_groups import PLAN_KEY, NodeGroupPlanned
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.status import WorkloadStatus
from shared.model.identities import NODE_GROUP_LABEL, ObjectKey, is_object_key
from shared.model.pod_objects import PodSpecObject
from shared.model.quantities import resource_amount
from shared.ports.event_log import Record

FOLLOWED = (STATUS.name, SCALING.name, NODE_GROUPS.name, OBJECTS.name)
_ENDED = frozenset({"Succeeded", "Failed"})


class Group(NamedTuple):
    """`price` of one node for an hour; `room` is how many of the workload's pods a node takes."""

    cluster: str
    name: str
    least: int
    most: int
    price: float
    room: int


class _Node(NamedTuple):
    group: tuple[str, str]
    allocatable: Mapping[str, int]
    ready: bool


class _PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class _Pod(msgspec.Struct, frozen=True):
    spec: PodSpecObject = PodSpecObject()
    status: _PodStatus = _PodStatus()


@dataclass(slots=True)
class SurgeSeen:
    """`spent` is what the nodes of all groups cost so far; the rest is as of the last record."""

    key: str
    groups: Mapping[tuple[str, str], Group]
    status: WorkloadStatus | None = None
    asked: int | None = None
    orders: int = 0
    spent: float = 0.0
    overcommitted: set[str] = field(default_factory=set)
    largest: Counter[tuple[str, str]] = field(default_factory=Counter)
    _nodes: dict[tuple[str, str], _Node] = field(default_factory=dict)
    _pods: dict[tuple[str, str, str], tuple[str, Mapping[str, int]]] = field(default_factory=dict)
    _used: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    _ordered: dict[str, tuple[int, int]] = field(default_factory=dict)
    _counted_at: float = field(default_factory=time.monotonic)

    # --- what it comes to ---

    @property
    def ready(self) -> int:
        return self.status.ready if self.status is not None else 0

    @property
    def sizes(self) -> Counter[tuple[str, str]]:
        """Nodes by group."""
        return Counter(node.group for node in self._nodes.values() if node.group in self.groups)

    @property
    def price(self) -> float:
        """Of all groups' nodes, an hour."""
        return sum(count * self.groups[group].price for group, count in self.sizes.items())

    @property
    def nodes_ready(self) -> bool:
        return all(node.ready for node in self._nodes.values())

    @property
    def least(self) -> bool:
        """Whether each group has as many nodes as it must, and no more."""
        sizes = self.sizes
        return all(sizes[key] == group.least for key, group in self.groups.items())

    @property
    def above_most(self) -> list[str]:
        """Groups that were larger than they may be at any time."""
        return ["/".join(key) for key, count in self.largest.items() if count > self.groups[key].most]

    def count_time(self) -> None:
        """What the nodes cost since the last call is spent."""
        now = time.monotonic()
        self.spent += self.price * (now - self._counted_at) / 3600
        self._counted_at = now

    # --- what the log says ---

    def fold(self, record: Record) -> None:
        key = (record.key or b"").decode()
        if record.topic == OBJECTS.name:
            if is_object_key(key):
                self._fold_object(ObjectKey.parse(key), record.value)
        elif record.topic == NODE_GROUPS.name:
            self._fold_order(key, record.value)
        elif key != self.key:
            return
        elif record.topic == STATUS.name:
            self.status = decode(WorkloadStatus, record.value) if record.value is not None else None
        elif record.value is not None:
            self.asked = decode(WorkloadScaled, record.value).pod_sets[0].replicas

    def _fold_order(self, key: str, value: bytes | None) -> None:
        if value is None or key == PLAN_KEY:
            return
        planned = decode(NodeGroupPlanned, value)
        order = planned.epoch, planned.generation
        self.orders += bool(planned.generation) and self._ordered.get(key) != order
        self._ordered[key] = order

    def _fold_object(self, key: ObjectKey, value: bytes | None) -> None:
        if key.resource.group:
            return
        if key.resource.plural == "nodes":
            self._fold_node((key.cluster, key.name), value)
        elif key.resource.plural == "pods":
            self._fold_pod((key.cluster, key.namespace, key.name), value)

    def _fold_node(self, key: tuple[str, str], value: bytes | None) -> None:
        self.count_time()
        if value is None:
            self._nodes.pop(key, None)
            return
        document = orjson.loads(value)
        status = document["status"]
        self._nodes[key] = _Node(
            group=(key[0], document["metadata"].get("labels", {}).get(NODE_GROUP_LABEL, "")),
            allocatable={name: resource_amount(name, text) for name, text in status["allocatable"].items()},
            ready=any((item["type"], item["status"]) == ("Ready", "True") for item in status.get("conditions", ())),
        )
        self.largest |= self.sizes
        self._check(key)

    def _fold_pod(self, key: tuple[str, str, str], value: bytes | None) -> None:
        former = self._pods.pop(key, None)
        if former is not None:
            self._used[key[0], former[0]].subtract(former[1])
        if value is None:
            return
        pod = msgspec.json.decode(value, type=_Pod)
        if pod.spec.node_name and pod.status.phase not in _ENDED:
            asked = pod.spec.requests()
            self._pods[key] = pod.spec.node_name, asked
            self._used.setdefault((key[0], pod.spec.node_name), Counter()).update(asked)
            self._check((key[0], pod.spec.node_name))

    def _check(self, key: tuple[str, str]) -> None:
        """A pod that is being deleted takes its room until it is gone."""
        node = self._nodes.get(key)
        used: Mapping[str, int] = self._used.get(key, {})
        if node is not None and any(amount > node.allocatable.get(name, 0) for name, amount in used.items()):
            self.overcommitted.add("/".join(key))


def least_price(groups: Mapping[tuple[str, str], Group], pods: int) -> float:
    """An hour, of the cheapest sizes within the groups' limits that have room for so many equal pods: exactly, by
    dynamic programming over the pods that still have no room. Infinite where there is none.
    """
    best = [0.0, *([float("inf")] * pods)]
    for group in groups.values():
        best = [
            min(
                best[max(0, covered - size * group.room)] + size * group.price
                for size in range(group.least, group.most + 1)
            )
            for covered in range(pods + 1)
        ]
    return best[pods]
