"""Clusters in virtual time, for `tests.bench.day`: node groups whose nodes take their time to boot, pods that take
theirs to start, ReplicaSets, and in each cluster a kube-scheduler. Whoever plans the fleet asks it for replicas and
nodes, and is told which nodes and pods are others than before.

- kube-scheduler takes pods in the order in which they came; of the nodes that have room the one with the highest sum of
  NodeResourcesFit (LeastAllocated, its default) and NodeResourcesBalancedAllocation, by chance among equals.
- A ReplicaSet that has too many deletes pods without a node first, then those that are not ready, then those that share
  their node with most of its others, then the newest (`ActivePodsWithRanks` in Kubernetes' controller_utils.go).
- A node that goes is cordoned and its pods are evicted at once, for nobody has a disruption budget; it is paid for
  until it is deleted, `times.drain` later.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import NamedTuple

from tests.bench.day_ledger import Ledger
from tests.bench.day_load import Group, Served

Action = Callable[[], None]


@dataclass(slots=True, eq=False)
class Node:
    """Free is what is not requested, cordoned who takes no more pods; `gone` when it is deleted."""

    name: str
    group: Group
    ordered_ms: int
    free_cpu: int
    free_memory: int
    ready: bool = False
    cordoned: bool = False
    gone: bool = False
    pods: dict[str, Pod] = field(default_factory=dict)

    def fits(self, cpu: int, memory: int) -> bool:
        return self.free_cpu >= cpu and self.free_memory >= memory and len(self.pods) < self.group.pods


@dataclass(slots=True, eq=False)
class Pod:
    """`made` counts pods. `unschedulable`: its cluster's scheduler found no node."""

    name: str
    of: Served
    cluster: str
    made: int
    made_ms: int
    node: Node | None = None
    bound_ms: int = 0
    ready: bool = False
    ready_ms: int = 0
    unschedulable: bool = False
    gone: bool = False


class Times(NamedTuple):
    """In milliseconds: a node from its order until it is ready, a pod from its binding until it is ready, and a node
    from its cordon until it is deleted."""

    boot: int = 180_000
    start: int = 15_000
    drain: int = 30_000


class VirtualFleet:
    """`now_ms` is the time. What changed is in `changed_nodes` and `changed_pods` until somebody takes it."""

    def __init__(self, groups: Sequence[Group], times: Times, ledger: Ledger, now_ms: int, seed: int) -> None:
        self.groups = {(group.cluster, group.name): group for group in groups}
        self.clusters = sorted({group.cluster for group in groups})
        self.ledger, self.now_ms, self._times = ledger, now_ms, times
        self.nodes: dict[str, dict[str, Node]] = {name: {} for name in self.clusters}
        self.pods: dict[str, Pod] = {}
        self.changed_nodes: dict[str, Node] = {}
        self.changed_pods: dict[str, Pod] = {}
        self._sets: dict[tuple[str, str], dict[str, Pod]] = {}
        self._asked: dict[tuple[str, str], int] = {}
        self._waiting: dict[str, dict[str, Pod]] = {name: {} for name in self.clusters}
        self._dirty: set[str] = set()
        self._random = Random(seed)
        self._numbers = count()
        self._due: list[tuple[int, int, Action]] = []

    # --- time ---

    def at(self, time_ms: int, action: Action) -> None:
        heapq.heappush(self._due, (time_ms, next(self._numbers), action))

    def every(self, period_ms: int, action: Action) -> None:
        """From now on; what has the same moment comes in the order in which it was asked for."""

        def again() -> None:
            action()
            self.at(self.now_ms + period_ms, again)

        self.at(self.now_ms, again)

    def run(self, until_ms: int, settle: Action) -> None:
        """`settle` is called after all that has one moment."""
        while self._due and self._due[0][0] <= until_ms:
            self.now_ms = self._due[0][0]
            while self._due and self._due[0][0] == self.now_ms:
                heapq.heappop(self._due)[2]()
            settle()
        self.now_ms = until_ms

    # --- nodes ---

    def nodes_of(self, group: Group) -> list[Node]:
        return [node for node in self.nodes[group.cluster].values() if node.group is group]

    def order(self, group: Group, nodes: int) -> None:
        """So many more of the group."""
        for _ in range(nodes):
            name = f"{group.cluster}-{group.name}-{next(self._numbers)}"
            made = Node(name, group, self.now_ms, group.cpu, group.memory)
            self.nodes[group.cluster][name] = made
            self.at(self.now_ms + self._times.boot, partial(self._booted, made))

    def _booted(self, node: Node) -> None:
        if not node.gone:
            node.ready = True
            self.changed_nodes[node.name] = node
            self._dirty.add(node.group.cluster)

    def drain(self, node: Node) -> None:
        """Its pods are evicted, and it is deleted in a while."""
        node.cordoned = True
        self.changed_nodes[node.name] = node
        for pod in list(node.pods.values()):
            self._end(pod)
            self._reconcile(pod.cluster, pod.of)
        self.at(self.now_ms + self._times.drain, partial(self.delete, node))

    def delete(self, node: Node) -> None:
        """With nothing on it, or one that boots."""
        assert not node.pods
        node.gone = True
        del self.nodes[node.group.cluster][node.name]
        self.changed_nodes[node.name] = node
        self.ledger.paid(node.group.cluster, node.group.price, node.ordered_ms, self.now_ms)

    def close(self) -> None:
        """The day is over: all nodes are paid."""
        for node in (node for nodes in self.nodes.values() for node in nodes.values()):
            self.ledger.paid(node.group.cluster, node.group.price, node.ordered_ms, self.now_ms)

    # --- pods ---

    def set_replicas(self, cluster: str, of: Served, replicas: int) -> None:
        self._asked[cluster, of.name] = replicas
        self._reconcile(cluster, of)

    def pods_of(self, cluster: str, of: Served) -> Iterable[Pod]:
        return self._sets.get((cluster, of.name), {}).values()

    def waiting(self, cluster: str) -> list[Pod]:
        """Those for which there was no node."""
        return [pod for pod in self._waiting[cluster].values() if pod.unschedulable]

    def _reconcile(self, cluster: str, of: Served) -> None:
        asked, mine = self._asked[cluster, of.name], self._sets.setdefault((cluster, of.name), {})
        while len(mine) < asked:
            number = next(self._numbers)
            pod = Pod(f"{of.name}-{number}", of, cluster, number, self.now_ms)
            mine[pod.name] = self.pods[pod.name] = self._waiting[cluster][pod.name] = pod
            self.changed_pods[pod.name] = pod
            self._dirty.add(cluster)
        if len(mine) > asked:
            for pod in deletion_order(mine.values())[: len(mine) - asked]:
                self._end(pod)

    def _end(self, pod: Pod) -> None:
        pod.gone = True
        del self.pods[pod.name], self._sets[pod.cluster, pod.of.name][pod.name]
        self._waiting[pod.cluster].pop(pod.name, None)
        self.changed_pods[pod.name] = pod
        self._dirty.add(pod.cluster)
        if pod.node is not None:
            del pod.node.pods[pod.name]
            pod.node.free_cpu += pod.of.cpu
            pod.node.free_memory += pod.of.memory
        if pod.ready:
            self.ledger.went(pod.of.name, self.now_ms)

    def _started(self, pod: Pod) -> None:
        if not pod.gone:
            pod.ready, pod.ready_ms = True, self.now_ms
            self.changed_pods[pod.name] = pod
            self.ledger.came(pod.of.name, self.now_ms)

    # --- the clusters' schedulers ---

    def schedule(self) -> None:
        """Pods that wait, where anything is another than before."""
        dirty, self._dirty = self._dirty, set()
        for cluster in sorted(dirty):
            refused: set[tuple[int, int]] = set()
            for pod in list(self._waiting[cluster].values()):
                shape = pod.of.cpu, pod.of.memory
                node = None if shape in refused else self._choose(cluster, pod.of)
                if node is not None:
                    self._bind(pod, node)
                    continue
                refused.add(shape)
                if not pod.unschedulable:
                    pod.unschedulable = True
                    self.changed_pods[pod.name] = pod

    def _choose(self, cluster: str, of: Served) -> Node | None:
        best, found = -1, list[Node]()
        for node in self.nodes[cluster].values():
            if node.ready and not node.cordoned and node.fits(of.cpu, of.memory):
                value = score(node, of.cpu, of.memory)
                if value > best:
                    best, found = value, []
                if value == best:
                    found.append(node)
        return self._random.choice(found) if found else None

    def _bind(self, pod: Pod, node: Node) -> None:
        del self._waiting[pod.cluster][pod.name]
        pod.node, pod.bound_ms, pod.unschedulable = node, self.now_ms, False
        node.pods[pod.name] = pod
        node.free_cpu -= pod.of.cpu
        node.free_memory -= pod.of.memory
        self.changed_pods[pod.name] = pod
        self.at(self.now_ms + self._times.start, partial(self._started, pod))

    # --- what is seen ---

    def take_nodes(self) -> Iterator[Node]:
        changed, self.changed_nodes = self.changed_nodes, {}
        yield from changed.values()

    def take_pods(self) -> Iterator[Pod]:
        changed, self.changed_pods = self.changed_pods, {}
        yield from changed.values()

    @property
    def restless(self) -> bool:
        return bool(self.changed_nodes or self.changed_pods or self._dirty)

    def look(self) -> None:
        """For the ledger."""
        nodes = [node for nodes in self.nodes.values() for node in nodes.values()]
        there = sum(node.group.cpu for node in nodes)
        free = sum(node.free_cpu for node in nodes)
        self.ledger.see(len(self.pods), len(nodes), (there - free) / there if there else 0.0, self.now_ms)


def score(node: Node, cpu: int, memory: int) -> int:
    """LeastAllocated and BalancedAllocation, whole numbers from 0 to 100 each, as kube-scheduler adds them."""
    free, there = (node.free_cpu - cpu, node.free_memory - memory), (node.group.cpu, node.group.memory)
    least = (100 * free[0] // there[0] + 100 * free[1] // there[1]) // 2
    return least + int(100 * (1 - abs(free[0] / there[0] - free[1] / there[1]) / 2))


def deletion_order(pods: Iterable[Pod]) -> list[Pod]:
    """Who of a ReplicaSet goes first."""
    mine = list(pods)
    beside: dict[str, int] = {}
    for pod in mine:
        if pod.node is not None:
            beside[pod.node.name] = beside.get(pod.node.name, 0) + 1

    def key(pod: Pod) -> tuple[bool, bool, int, int, int]:
        together = beside[pod.node.name] if pod.node is not None else 0
        return pod.node is not None, pod.ready, -together, -pod.ready_ms, -pod.made

    return sorted(mine, key=key)
