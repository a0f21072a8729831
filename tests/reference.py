"""The scheduler's objective, computed anew from its documentation for every decision: no caches, no differences.

Written from the docstrings of `services.scheduler.decision.{filters,costs,spread,devices}`, on arrays of its own, and
used to check that every choice of the scheduler is the argmin over all nodes. It knows nodes from their JSON and what
is on them from the decisions that it is told.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from services.scheduler.decision.config import Fit, SchedulerConfig
from shared.model.pods import PodShape
from shared.model.quantities import resource_amount
from shared.model.taints import Taint
from tests.reference_rules import Pod, RulesReference

TIE = 1e-7
INFINITE = float("inf")


@dataclass
class ReferenceNode:
    cluster: str
    name: str
    labels: dict[str, str]
    taints: list[Taint]
    ready: bool
    unschedulable: bool
    allocatable: dict[str, int]
    price: float
    load: float = 0.0
    used: Counter[str] = field(default_factory=Counter)
    devices: list[int] = field(default_factory=list)
    ports: list[Any] = field(default_factory=list)

    @property
    def order(self) -> float:
        digest = blake2b(f"{self.cluster}/{self.name}".encode(), digest_size=6).digest()
        return int.from_bytes(digest, "big") / 2**48


class Reference:
    def __init__(self, config: SchedulerConfig) -> None:
        self._config = config
        self.nodes: dict[tuple[str, str], ReferenceNode] = {}
        self.clusters_taking: set[str] = set()
        # Pods of the fleet, as cpu, devices and thousandths of each, and what part of all they are.
        self.mix: list[tuple[tuple[int, int, int], float]] = []
        self._leftovers: dict[tuple[object, ...], list[float]] = {}
        self.rules = RulesReference()
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}
        self._index: dict[tuple[str, str], int] = {}

    def add(self, cluster: str, name: str, document: dict[str, Any]) -> None:
        labels = document["metadata"].get("labels", {})
        allocatable = {key: resource_amount(key, text) for key, text in document["status"]["allocatable"].items()}
        price = _price(labels.get("flotilla.dev/price-per-hour"), self._config.default_price)
        gpus = allocatable.get(self._config.gpu_resource, 0)
        self.nodes[cluster, name] = ReferenceNode(
            cluster=cluster,
            name=name,
            labels=labels,
            taints=[Taint.model_validate(taint) for taint in document["spec"].get("taints", [])],
            ready=any(c["type"] == "Ready" and c["status"] == "True" for c in document["status"]["conditions"]),
            unschedulable=document["spec"].get("unschedulable", False),
            allocatable=allocatable,
            price=price,
            devices=[1000] * gpus,
        )
        self.rules.nodes[cluster, name] = labels
        self._arrays = {}

    def take(self, cluster: str, name: str, shape: PodShape, pod: Pod | None = None) -> None:
        node = self.nodes[cluster, name]
        if pod is not None:
            self.rules.pods.append(replace(pod, at=(cluster, name)))
        node.used.update(dict(shape.requests))
        node.ports.extend(shape.host_ports)
        count = dict(shape.requests).get(self._config.gpu_resource, 0)
        fitting = sorted((free, index) for index, free in enumerate(node.devices) if free >= shape.gpu_milli)
        assert len(fitting) >= count, "a pod was placed where its devices do not fit"
        for _, index in fitting[:count]:
            node.devices[index] -= shape.gpu_milli
        self._write(node)

    # --- the objective ---

    def costs(
        self, shape: PodShape, spread: Counter[tuple[str, str]], desired: int, pod: Pod | None = None
    ) -> dict[tuple[str, str], float]:
        """What one more pod costs on every node of the fleet; `spread` counts replicas by cluster and zone."""
        config, weights, arrays = self._config, self._config.weights, self._columns()
        requests = dict(shape.requests)
        fractions = [
            np.minimum((arrays[f"used {name}"] + requests.get(name, 0)) / np.maximum(arrays[name], 1), 1.0)
            for name in ("cpu", "memory")
        ]
        mean = (fractions[0] + fractions[1]) / 2
        cost = TIE * arrays["order"]
        cost = cost + weights.price * (arrays["price"] / (arrays["price"].max() or 1.0))
        cost = cost + weights.load * arrays["load"]
        if shape.preferred:
            cost = cost + weights.node_affinity * np.array([_disliked(node, shape) for node in self.nodes.values()])
        cost = cost + weights.taints * np.array([_discouraged(node, shape) for node in self.nodes.values()])
        cost = cost + weights.fit * (1.0 - mean if config.fit is Fit.MOST_ALLOCATED else mean)
        cost = cost + weights.balance * (np.abs(fractions[0] - fractions[1]) / 2)
        cost = cost + weights.fragmentation * self._fragmentation(shape)
        if weights.expected_fragmentation:
            cost = cost + weights.expected_fragmentation * self._expected_fragmentation(shape)
        in_rows, in_zones, refused = self._between_pods(shape, pod)
        cost = cost + in_rows
        if spread and weights.spread:
            cost = cost + self._spread(spread, desired)
        cost = cost + in_zones
        refused |= self._refused(shape)
        return {key: INFINITE if refused[index] else float(cost[index]) for index, key in enumerate(self.nodes)}

    def prices(self, shape: PodShape) -> dict[tuple[str, str], int]:
        """What one pod costs an hour on every node, in billionths."""
        found = {}
        for key, node in self.nodes.items():
            parts = [
                amount * (shape.gpu_milli / 1000 if name == self._config.gpu_resource else 1) / node.allocatable[name]
                for name, amount in shape.requests
                if node.allocatable.get(name)
            ]
            found[key] = int(node.price * min(max(parts, default=0.0), 1.0) * 1_000_000_000)
        return found

    def _between_pods(self, shape: PodShape, pod: Pod | None) -> tuple[np.ndarray[Any, Any], ...]:
        """What other pods add to the cost of each node: as nodes, and as zones; and where they refuse."""
        parts = np.zeros((2, len(self.nodes)))
        refused = np.zeros(len(self.nodes), bool)
        if pod is None:
            return parts[0], parts[1], refused
        weights, rules = self._config.weights, self.rules
        included = {
            (key, affinity, taints): (affinity == "Ignore" or _selected(node, shape))
            and (taints == "Ignore" or _tolerated(node.taints, shape))
            for key, node in self.nodes.items()
            for affinity in ("Honor", "Ignore")
            for taints in ("Honor", "Ignore")
        }
        for index, key in enumerate(self.nodes):
            refused[index] = rules.refuses(pod, key, included)
            for cost, zones in rules.skew(pod, key, weights.topology_spread, included):
                parts[int(zones), index] += cost
            cost, zones = rules.liking(pod, key, weights.pod_affinity)
            parts[int(zones), index] += cost
        return parts[0], parts[1], refused

    def _fragmentation(self, shape: PodShape) -> np.ndarray[Any, Any]:
        asked = dict(shape.requests).get(self._config.gpu_resource, 0)
        devices = self._columns()["devices"]
        count = np.count_nonzero(devices >= 0, axis=1)
        free = np.where(devices >= 0, devices, 0).sum(axis=1)
        return np.asarray(np.maximum(free - asked * shape.gpu_milli, 0) / np.maximum(count * 1000, 1))

    def _expected_fragmentation(self, shape: PodShape) -> np.ndarray[Any, Any]:
        requests = dict(shape.requests)
        asked, cpu = requests.get(self._config.gpu_resource, 0), requests.get("cpu", 0)
        terms = []
        for node in self.nodes.values():
            free_cpu = node.allocatable.get("cpu", 0) - node.used["cpu"]
            fitting = sorted((free, index) for index, free in enumerate(node.devices) if free >= shape.gpu_milli)
            if not node.devices or len(fitting) < asked:
                terms.append(0.0)
                continue
            behind = list(node.devices)
            for _, index in fitting[:asked]:
                behind[index] -= shape.gpu_milli
            change = self._fragment(behind, free_cpu - cpu) - self._fragment(node.devices, free_cpu)
            terms.append(min(max(0.5 + change / 16_000, 0.0), 1.0))
        return np.array(terms)

    def _fragment(self, devices: list[int], cpu: int) -> float:
        """What a pod of the mix is expected not to be able to use, and what is left over in the end."""
        leftover = self._leftover()
        total, left = 0.0, sum(devices)
        for free in devices:
            total += leftover[free]
        for (asked_cpu, wanted, milli), part in self.mix:
            room = [free for free in devices if free >= milli]
            if len(room) < wanted or cpu < asked_cpu:
                total += part * left
                continue
            pods = float(sum(free // milli for free in room) // wanted)
            pods = min(pods, cpu / asked_cpu) if asked_cpu else pods
            total += part * (0.9 * (left - sum(room)) + 0.1 * (left - pods * (wanted * milli)))
        return total

    def _leftover(self) -> list[float]:
        """Of a device, by its free thousandths, when pods of the mix come one by one, or, a tenth to one, no more."""
        key = tuple(self.mix)
        if key not in self._leftovers:
            rest = [0.0]
            for free in range(1, 1001):
                fitting = [(part * wanted, milli) for (_, wanted, milli), part in self.mix if milli <= free]
                expected, chance = 0.1 * free, 0.1
                for weight, milli in fitting:
                    expected += weight * rest[free - milli]
                    chance += weight
                rest.append(expected / chance)
            self._leftovers = {key: rest}
        return self._leftovers[key]

    def _spread(self, spread: Counter[tuple[str, str]], desired: int) -> np.ndarray[Any, Any]:
        in_cluster: Counter[str] = Counter()
        for (cluster, _), count in spread.items():
            in_cluster[cluster] += count
        counts = np.array(
            [
                in_cluster[node.cluster] + spread[node.cluster, node.labels.get("topology.kubernetes.io/zone", "")]
                for node in self.nodes.values()
            ]
        )
        return np.asarray(self._config.weights.spread * (counts / (2 * desired)))

    def _refused(self, shape: PodShape) -> np.ndarray[Any, Any]:
        arrays = self._columns()
        refused = np.array([self._refused_by_facts(node, shape) for node in self.nodes.values()])
        for name, amount in shape.requests:
            if name not in arrays:
                return np.ones(len(refused), bool)
            if name != self._config.gpu_resource:
                refused |= arrays[name] - arrays[f"used {name}"] < amount
        asked = dict(shape.requests).get(self._config.gpu_resource, 0)
        if asked:
            refused |= np.count_nonzero(arrays["devices"] >= shape.gpu_milli, axis=1) < asked
        return refused

    def _refused_by_facts(self, node: ReferenceNode, shape: PodShape) -> bool:
        taints = [taint for taint in node.taints if taint.effect != "PreferNoSchedule"]
        if node.unschedulable:
            taints.append(Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule"))
        return (
            node.cluster not in self.clusters_taking
            or not node.ready
            or not _tolerated(taints, shape)
            or not _selected(node, shape)
            or any(wanted.conflicts(port) for wanted in shape.host_ports for port in node.ports)
        )

    # --- arrays, only for speed: one entry for each node, in the order of `nodes` ---

    def _columns(self) -> dict[str, np.ndarray[Any, Any]]:
        if not self._arrays:
            nodes = list(self.nodes.values())
            names = {name for node in nodes for name in node.allocatable}
            for name in names:
                self._arrays[name] = np.array([node.allocatable.get(name, 0) for node in nodes])
                self._arrays[f"used {name}"] = np.array([node.used[name] for node in nodes])
            width = max((len(node.devices) for node in nodes), default=0) or 1
            padded = [node.devices + [-1] * (width - len(node.devices)) for node in nodes]
            self._arrays |= {
                "price": np.array([node.price for node in nodes]),
                "load": np.array([node.load for node in nodes]),
                "order": np.array([node.order for node in nodes]),
                "devices": np.array(padded),
            }
            self._index = {key: index for index, key in enumerate(self.nodes)}
        return self._arrays

    def _write(self, node: ReferenceNode) -> None:
        arrays = self._columns()
        index = self._index[node.cluster, node.name]
        for name, amount in node.used.items():
            arrays[f"used {name}"][index] = amount
        if node.devices:
            arrays["devices"][index, : len(node.devices)] = node.devices


def _tolerated(taints: list[Taint], shape: PodShape) -> bool:
    hard = [taint for taint in taints if taint.effect != "PreferNoSchedule"]
    return all(any(item.tolerates(taint) for item in shape.tolerations) for taint in hard)


def _selected(node: ReferenceNode, shape: PodShape) -> bool:
    if any(node.labels.get(key) != value for key, value in shape.node_selector):
        return False
    return shape.affinity is None or shape.affinity.matches(node.labels, node.name)


def _disliked(node: ReferenceNode, shape: PodShape) -> float:
    labels, fields = node.labels, {"metadata.name": node.name}
    total, missed = 0, 0
    for item in shape.preferred:
        needs = [(labels, need) for need in item.preference.match_expressions]
        needs += [(fields, need) for need in item.preference.match_fields]
        total += item.weight if needs else 0
        missed += item.weight if needs and not all(need.matches(where) for where, need in needs) else 0
    return missed / max(total, 1)


def _discouraged(node: ReferenceNode, shape: PodShape) -> float:
    soft = [taint for taint in node.taints if taint.effect == "PreferNoSchedule"]
    count = sum(1 for taint in soft if not any(item.tolerates(taint) for item in shape.tolerations))
    return count / (1 + count)


def _price(text: str | None, default: float) -> float:
    """A label that is no number does not count."""
    try:
        return float(text) if text is not None else default
    except ValueError:
        return default
