"""Which nodes a pod fits: the filters of the default scheduler, over cached sums of what is requested.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins (noderesources, nodeaffinity, tainttoleration,
nodeunschedulable, nodeports, interpodaffinity, podtopologyspread). Required terms only, and no preemption.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.simulator.controllers.common import is_finished
from services.simulator.core.meta import Json, Key, key_of, labels_of
from services.simulator.core.quantities import quantity_milli, quantity_units
from services.simulator.core.selectors import label_selector, requirement
from services.simulator.core.store import Event

Amounts = dict[str, int]


def amounts(resources: Json | None) -> Amounts:
    """Resources as integers: cpu in thousandths, everything else in units."""
    return {
        name: quantity_milli(text) if name == "cpu" else quantity_units(text)
        for name, text in (resources or {}).items()
    }


def pod_requests(spec: Json) -> Amounts:
    """What a pod asks for: the sum of its containers, or its largest init container if that is more."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        for name, amount in amounts((container.get("resources") or {}).get("requests")).items():
            total[name] = total.get(name, 0) + amount
    for container in spec.get("initContainers") or ():
        sidecar = container.get("restartPolicy") == "Always"
        for name, amount in amounts((container.get("resources") or {}).get("requests")).items():
            total[name] = total.get(name, 0) + amount if sidecar else max(total.get(name, 0), amount)
    for name, amount in amounts(spec.get("overhead")).items():
        total[name] = total.get(name, 0) + amount
    return {name: amount for name, amount in total.items() if amount}


def host_ports(spec: Json) -> frozenset[tuple[str, int]]:
    return frozenset(
        (port.get("protocol", "TCP"), port["hostPort"])
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


class NodeInfo:
    """A node with the pods that are assigned to it."""

    __slots__ = ("allocatable", "node", "owners", "pods", "ports", "requested")

    def __init__(self) -> None:
        self.node: Json | None = None
        self.allocatable: Amounts = {}
        self.requested: Amounts = {}
        self.pods: dict[Key, tuple[Json, Amounts]] = {}
        self.ports: dict[tuple[str, int], int] = {}
        self.owners: dict[str, int] = {}

    def set_node(self, node: Json | None) -> None:
        self.node = node
        self.allocatable = amounts((node or {}).get("status", {}).get("allocatable"))

    def add(self, pod: Json) -> None:
        key = key_of(pod)
        if key in self.pods:
            self.pods[key] = (pod, self.pods[key][1])
            return
        wanted = pod_requests(pod["spec"])
        self.pods[key] = (pod, wanted)
        for name, amount in wanted.items():
            self.requested[name] = self.requested.get(name, 0) + amount
        for port in host_ports(pod["spec"]):
            self.ports[port] = self.ports.get(port, 0) + 1
        owner = owner_uid(pod)
        self.owners[owner] = self.owners.get(owner, 0) + 1

    def remove(self, key: Key) -> None:
        known = self.pods.pop(key, None)
        if known is None:
            return
        pod, wanted = known
        for name, amount in wanted.items():
            self.requested[name] -= amount
        for port in host_ports(pod["spec"]):
            self.ports[port] -= 1
            if not self.ports[port]:
                del self.ports[port]
        owner = owner_uid(pod)
        self.owners[owner] -= 1
        if not self.owners[owner]:
            del self.owners[owner]


def owner_uid(pod: Json) -> str:
    """The uid of a pod's first owner, which for pods of controllers is the controller."""
    references = pod["metadata"].get("ownerReferences")
    return str(references[0]["uid"]) if references else ""


class NodeTable:
    """All nodes, kept by events; a node may be known from its pods before (or after) it exists."""

    def __init__(self) -> None:
        self._infos: dict[str, NodeInfo] = {}

    def present(self) -> list[NodeInfo]:
        return [info for info in self._infos.values() if info.node is not None]

    def get(self, name: str) -> NodeInfo | None:
        return self._infos.get(name)

    def on_node(self, event: Event) -> None:
        name = event.item.object["metadata"]["name"]
        info = self._infos.setdefault(name, NodeInfo())
        info.set_node(None if event.type == "DELETED" else event.item.object)
        if info.node is None and not info.pods:
            del self._infos[name]

    def on_pod(self, event: Event) -> None:
        pod = event.item.object
        name = pod["spec"].get("nodeName")
        if not name:
            return
        info = self._infos.setdefault(name, NodeInfo())
        if event.type == "DELETED" or is_finished(pod):
            info.remove(key_of(pod))
            if info.node is None and not info.pods:
                del self._infos[name]
        else:
            info.add(pod)


def tolerates(tolerations: Iterable[Json], taint: Json) -> bool:
    for entry in tolerations:
        if entry.get("effect") and entry["effect"] != taint["effect"]:
            continue
        if entry.get("key") and entry["key"] != taint["key"]:
            continue
        if entry.get("operator", "Equal") == "Exists" or entry.get("value", "") == taint.get("value", ""):
            return True
    return False


def untolerated(tolerations: Iterable[Json], node: Json, effects: tuple[str, ...]) -> Json | None:
    """The first taint of some effects that nothing tolerates."""
    tolerations = list(tolerations)
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint["effect"] in effects and not tolerates(tolerations, taint):
            found: Json = taint
            return found
    return None


def _term_matches(term: Json, node: Json) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels, own = labels_of(node), {"metadata.name": node["metadata"]["name"]}
    return all(
        requirement(entry["key"], entry["operator"], tuple(entry.get("values") or ()))(labels) for entry in expressions
    ) and all(requirement(entry["key"], entry["operator"], tuple(entry.get("values") or ()))(own) for entry in fields)


def matches_node(spec: Json, node: Json) -> bool:
    """NodeSelector and required node affinity."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    wanted = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return wanted is None or any(_term_matches(term, node) for term in wanted.get("nodeSelectorTerms") or ())


def preference(spec: Json, node: Json) -> int:
    """The weight of the preferred node affinity terms that hold."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return sum(
        entry["weight"]
        for entry in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        if _term_matches(entry["preference"], node)
    )


def resource_problems(wanted: Amounts, info: NodeInfo) -> list[str]:
    problems = []
    if len(info.pods) + 1 > info.allocatable.get("pods", 0):
        problems.append("Too many pods")
    for name, amount in wanted.items():
        if amount > info.allocatable.get(name, 0) - info.requested.get(name, 0):
            problems.append(f"Insufficient {name}")
    return problems


def node_problems(pod: Json, wanted: Amounts, ports: frozenset[Any], info: NodeInfo) -> list[str]:
    """Why a pod may not run on a node, in the scheduler's words; none if it may."""
    spec, node = pod["spec"], info.node
    assert node is not None
    tolerations = spec.get("tolerations") or ()
    if (node.get("spec") or {}).get("unschedulable") and not tolerates(
        tolerations, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    ):
        return ["node(s) were unschedulable"]
    taint = untolerated(tolerations, node, ("NoSchedule", "NoExecute"))
    if taint is not None:
        return ["node(s) had untolerated taint(s)"]
    if not matches_node(spec, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if ports & info.ports.keys():
        return ["node(s) didn't have free ports for the requested pod ports"]
    return resource_problems(wanted, info)


def topology_problems(pod: Json, info: NodeInfo, nodes: list[NodeInfo]) -> list[str]:
    """Pod affinity, anti-affinity and topology spread, which depend on pods elsewhere."""
    spec = pod["spec"]
    affinity = spec.get("affinity") or {}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    for term in (affinity.get("podAffinity") or {}).get(required) or ():
        if not _in_domain(pod, term, info, nodes) and not _first_of_itself(pod, term, nodes):
            return ["node(s) didn't match pod affinity rules"]
    for term in (affinity.get("podAntiAffinity") or {}).get(required) or ():
        if _in_domain(pod, term, info, nodes):
            return ["node(s) didn't match pod anti-affinity rules"]
    for constraint in spec.get("topologySpreadConstraints") or ():
        if constraint["whenUnsatisfiable"] == "DoNotSchedule" and _skew(pod, constraint, info, nodes):
            return ["node(s) didn't match pod topology spread constraints"]
    return []


def _domain(info: NodeInfo, key: str) -> str | None:
    assert info.node is not None
    return labels_of(info.node).get(key)


def _matching(pod: Json, term: Json, info: NodeInfo) -> int:
    matches = label_selector(term.get("labelSelector"))
    namespaces = term.get("namespaces") or [pod["metadata"]["namespace"]]
    return sum(
        1
        for other, _ in info.pods.values()
        if other["metadata"]["namespace"] in namespaces and matches(labels_of(other))
    )


def _in_domain(pod: Json, term: Json, info: NodeInfo, nodes: list[NodeInfo]) -> bool:
    domain = _domain(info, term["topologyKey"])
    if domain is None:
        return False
    return any(_domain(other, term["topologyKey"]) == domain and _matching(pod, term, other) for other in nodes)


def _first_of_itself(pod: Json, term: Json, nodes: list[NodeInfo]) -> bool:
    """A pod that matches its own affinity may start where no such pod is yet."""
    if not label_selector(term.get("labelSelector"))(labels_of(pod)):
        return False
    return not any(_matching(pod, term, other) for other in nodes)


def _skew(pod: Json, constraint: Json, info: NodeInfo, nodes: list[NodeInfo]) -> bool:
    key = constraint["topologyKey"]
    domain = _domain(info, key)
    if domain is None:
        return True
    counts: dict[str, int] = {}
    for other in nodes:
        name = _domain(other, key)
        if name is not None and other.node is not None and matches_node(pod["spec"], other.node):
            counts[name] = counts.get(name, 0) + _matching(pod, constraint, other)
    return counts.get(domain, 0) + 1 - min(counts.values(), default=0) > int(constraint["maxSkew"])


def uses_topology(spec: Json) -> bool:
    affinity = spec.get("affinity") or {}
    return bool(affinity.get("podAffinity") or affinity.get("podAntiAffinity") or spec.get("topologySpreadConstraints"))
