"""The day without Flotilla: HorizontalPodAutoscaler, a static division among clusters, and in each a node autoscaler.

`Autoscaler` follows what cluster-autoscaler publishes of itself (kubernetes/autoscaler, cluster-autoscaler/FAQ.md: "How
does scale-up work?", "How does scale-down work?", "What are Expanders?", "What are the parameters to CA?"; the expander
`least-waste` as in expander/waste/waste.go, sizes as in estimator/binpacking_estimator.go), with its default values:

- Every 10 s. Pods for which their cluster has no node, and which would have no place on nodes that boot either, get
  nodes: for each group the least number by first-fit decreasing, and one of the groups by its expander.
- Else nodes whose requests come to less than half of them, of cpu and of memory, and whose pods have places elsewhere,
  are not needed. One that was not needed for 10 minutes goes, but not within 10 minutes after nodes were added, nor
  within 10 s after one was deleted: empty ones up to 10 at once, others one by one, each when the last is gone.

Replicas are the same HorizontalPodAutoscaler's (`day_replicas`), as of Karmada's FederatedHPA over all clusters, and
divided by static weights: in parts of the sum rounded down, and what is left one by one to the largest weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from shared.events.v1.decisions import PodSetPlacement, RequestRef, WorkloadPlaced
from shared.events.v1.workloads import Workload
from tests.bench.day_fleet import Node, Pod, VirtualFleet
from tests.bench.day_load import Group, Served
from tests.bench.day_replicas import PERIOD_MS, Replicas, document


@dataclass(frozen=True, slots=True)
class Rules:
    """cluster-autoscaler's parameters, with their defaults; times in milliseconds."""

    scan_interval: int = 10_000
    utilization_threshold: float = 0.5
    unneeded_time: int = 600_000
    delay_after_add: int = 600_000
    delay_after_delete: int = 10_000
    max_empty_bulk_delete: int = 10


class Option(NamedTuple):
    """So many nodes of a group would take these pods."""

    group: Group
    nodes: int
    pods: tuple[Pod, ...]


Expander = Callable[[Sequence[Option]], Sequence[Option]]


def least_waste(options: Sequence[Option]) -> Sequence[Option]:
    """Those with the least sum of the parts of cpu and memory that would be idle."""
    return _least(options, _waste)


def _waste(option: Option) -> float:
    cpu, memory = option.nodes * option.group.cpu, option.nodes * option.group.memory
    return (cpu - sum(pod.of.cpu for pod in option.pods)) / cpu + (
        memory - sum(pod.of.memory for pod in option.pods)
    ) / memory


def most_pods(options: Sequence[Option]) -> Sequence[Option]:
    return _least(options, lambda option: -len(option.pods))


def cheapest_first(options: Sequence[Option]) -> Sequence[Option]:
    """`priority`, where a user ordered the groups by what a core of them costs."""
    return _least(options, lambda option: option.group.price / option.group.cpu)


def any_of_them(options: Sequence[Option]) -> Sequence[Option]:
    return options


def _least(options: Sequence[Option], key: Callable[[Option], float]) -> Sequence[Option]:
    least = min(map(key, options))
    return [option for option in options if key(option) == least]


# One after the other; among those that are left at the end one by chance.
EXPANDERS: Mapping[str, tuple[Expander, ...]] = {
    "random": (any_of_them,),
    "most-pods": (most_pods,),
    "least-waste": (least_waste,),
    "priority,least-waste": (cheapest_first, least_waste),
}


class _Room:
    """What is free on nodes while it is tried what would fit."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._free = {node.name: [node.free_cpu, node.free_memory, node.group.pods - len(node.pods)] for node in nodes}

    def take(self, of: Served) -> bool:
        """The first that has room."""
        for free in self._free.values():
            if free[0] >= of.cpu and free[1] >= of.memory and free[2] > 0:
                free[0], free[1], free[2] = free[0] - of.cpu, free[1] - of.memory, free[2] - 1
                return True
        return False

    def without(self, node: Node) -> bool:
        """Takes the node out if its pods fit elsewhere."""
        kept = {name: list(free) for name, free in self._free.items()}
        del self._free[node.name]
        if all(self.take(pod.of) for pod in node.pods.values()):
            return True
        self._free = kept
        return False


def estimate(group: Group, pods: Sequence[Pod], most: int) -> Option:
    """How many nodes of a group the pods need, and which of them get a place on at most so many."""
    made: list[list[int]] = []
    placed = []
    for pod in sorted(pods, key=lambda pod: -(pod.of.cpu / group.cpu + pod.of.memory / group.memory)):
        of = pod.of
        free = next((each for each in made if each[0] >= of.cpu and each[1] >= of.memory and each[2] > 0), None)
        if free is None and len(made) < most and of.cpu <= group.cpu and of.memory <= group.memory:
            free = [group.cpu, group.memory, group.pods]
            made.append(free)
        if free is not None:
            free[0], free[1], free[2] = free[0] - of.cpu, free[1] - of.memory, free[2] - 1
            placed.append(pod)
    return Option(group, len(made), tuple(placed))


class Autoscaler:
    """Of one cluster; see the module."""

    def __init__(
        self, fleet: VirtualFleet, cluster: str, expanders: Sequence[Expander], rng: Random, rules: Rules | None = None
    ) -> None:
        self._fleet, self._cluster, self._rules = fleet, cluster, rules or Rules()
        self._expanders, self._random = expanders, rng
        self._groups = [group for group in fleet.groups.values() if group.cluster == cluster]
        self._unneeded: dict[str, int] = {}
        self._added_ms: int | None = None
        self._deleted_ms: int | None = None
        self._draining: Node | None = None

    def scan(self) -> None:
        if not self._grow():
            self._shrink()

    # --- up ---

    def _grow(self) -> bool:
        """Whether nodes were added."""
        nodes = [node for node in self._fleet.nodes[self._cluster].values() if not node.cordoned]
        room = _Room(nodes)
        lacking = [pod for pod in _largest_first(self._fleet.waiting(self._cluster)) if not room.take(pod.of)]
        if not lacking:
            return False
        sizes = {group.name: len(self._fleet.nodes_of(group)) for group in self._groups}
        found = (estimate(group, lacking, group.most - sizes[group.name]) for group in self._groups)
        options: Sequence[Option] = [option for option in found if option.nodes]
        if not options:
            return False
        for expander in self._expanders:
            options = expander(options)
        chosen = self._random.choice(options)
        self._fleet.order(chosen.group, chosen.nodes)
        self._added_ms = self._fleet.now_ms
        return True

    # --- down ---

    def _shrink(self) -> None:
        now_ms, rules = self._fleet.now_ms, self._rules
        unneeded = self._find_unneeded()
        self._unneeded = {node.name: self._unneeded.get(node.name, now_ms) for node in unneeded}
        if self._draining is not None and self._draining.gone:
            self._draining, self._deleted_ms = None, now_ms
        if _within(self._added_ms, rules.delay_after_add, now_ms):
            return
        if _within(self._deleted_ms, rules.delay_after_delete, now_ms):
            return
        due = [node for node in unneeded if now_ms - self._unneeded[node.name] >= rules.unneeded_time]
        empty = [node for node in due if not node.pods]
        if empty:
            for node in empty[: rules.max_empty_bulk_delete]:
                self._fleet.drain(node)
            self._deleted_ms = now_ms
        elif due and self._draining is None:
            self._draining = due[0]
            self._fleet.drain(due[0])

    def _find_unneeded(self) -> list[Node]:
        """Those that may go together: pods of each find places beside those of the ones before it. Empty ones come
        first, then those that were not needed before."""
        nodes = [node for node in self._fleet.nodes[self._cluster].values() if node.ready and not node.cordoned]
        room = _Room(nodes)
        candidates = [node for node in nodes if utilization(node) < self._rules.utilization_threshold]
        candidates.sort(key=lambda node: (bool(node.pods), node.name not in self._unneeded))
        return [node for node in candidates if room.without(node)]


def utilization(node: Node) -> float:
    """The larger of the parts of cpu and of memory that are requested."""
    return max(1 - node.free_cpu / node.group.cpu, 1 - node.free_memory / node.group.memory)


def _largest_first(pods: Sequence[Pod]) -> list[Pod]:
    return sorted(pods, key=lambda pod: (-pod.of.cpu, -pod.of.memory, pod.made))


def _within(since_ms: int | None, delay_ms: int, now_ms: int) -> bool:
    return since_ms is not None and now_ms - since_ms < delay_ms


def divide(replicas: int, weights: Mapping[str, int]) -> dict[str, int]:
    """See the module; of equal weights the first by name."""
    total = sum(weights.values())
    found = {cluster: replicas * weight // total for cluster, weight in weights.items()}
    ordered = sorted(weights, key=lambda cluster: (-weights[cluster], cluster))
    for cluster in ordered[: replicas - sum(found.values())]:
        found[cluster] += 1
    return found


def by_capacity(groups: Sequence[Group]) -> dict[str, int]:
    """Weights by what the clusters may come to, in cores."""
    found: dict[str, int] = {}
    for group in groups:
        found[group.cluster] = found.get(group.cluster, 0) + group.most * group.cpu // 1000
    return found


def cheapest_filled(groups: Sequence[Group], needed: float, part: float = 0.85) -> dict[str, int]:
    """Weights of somebody who knows the prices and the day before it begins: at its peak, so many thousandths of a
    core, the cheapest clusters have `part` of what they may come to, which leaves something for what does not fit
    exactly."""
    found: dict[str, int] = {}
    prices = {group.cluster: group.price / group.cpu for group in groups}
    for group in groups:
        prices[group.cluster] = min(prices[group.cluster], group.price / group.cpu)
    cores = by_capacity(groups)
    left = needed / 1000
    for cluster in sorted(prices, key=lambda name: (prices[name], name)):
        found[cluster] = round(min(part * cores[cluster], left))
        left -= found[cluster]
    return found


class Reactive:
    """One of these clusters, each with an autoscaler."""

    def __init__(
        self, fleet: VirtualFleet, workloads: Sequence[Served], weights: Mapping[str, int], expander: str, seed: int
    ) -> None:
        self._fleet, self._workloads, self._weights = fleet, workloads, weights
        self._replicas = Replicas(fleet, workloads)
        rng = Random(seed)
        self._autoscalers = [Autoscaler(fleet, name, EXPANDERS[expander], rng) for name in fleet.clusters]

    def begin(self) -> None:
        fleet = self._fleet
        for of in self._workloads:
            replicas = of.replicas(of.load[0])
            fleet.ledger.want(of.name, replicas, fleet.now_ms)
            self._replicas.place(of.key, accepted(of, replicas))
            self._divide(of)
        fleet.every(PERIOD_MS, self._look)
        fleet.every(Rules().scan_interval, self._scan)

    def settle(self) -> None:
        fleet = self._fleet
        while fleet.restless:
            fleet.schedule()
            for _ in fleet.take_nodes():
                pass
            for pod in fleet.take_pods():
                self._replicas.observe(pod)

    def _look(self) -> None:
        for of, _ in self._replicas.look():
            self._divide(of)

    def _divide(self, of: Served) -> None:
        for cluster, replicas in divide(self._fleet.ledger.desired(of.name), self._weights).items():
            self._fleet.set_replicas(cluster, of, replicas)

    def _scan(self) -> None:
        # Pods that came at the same moment were seen by their schedulers already.
        self._fleet.schedule()
        for autoscaler in self._autoscalers:
            autoscaler.scan()


def accepted(of: Served, replicas: int) -> WorkloadPlaced:
    """What the HorizontalPodAutoscaler has to know of its workload."""
    return WorkloadPlaced(
        workload=Workload.model_validate(document(of, replicas)),
        uid=of.name,
        workload_generation=1,
        request=RequestRef(id=of.name, published_at=1),
        pod_sets=(PodSetPlacement(name="main", desired=replicas),),
    )
