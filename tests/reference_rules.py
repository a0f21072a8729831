"""Pod affinity, anti-affinity and topology spread, computed anew from Kubernetes' documentation and from JSON.

Used to check `services.scheduler.decision.scoring.constraints`, of which it shares nothing: every pod is looked at for
every term on every node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Node = tuple[str, str]
ZONE = "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass
class Pod:
    namespace: str
    labels: Mapping[str, str]
    spec: Json
    at: Node = ("", "")
    ending: bool = False


@dataclass
class RulesReference:
    """`nodes` are labels by cluster and name; `namespaces` are labels by cluster and name."""

    nodes: dict[Node, Mapping[str, str]] = field(default_factory=dict)
    namespaces: dict[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)

    # --- what refuses ---

    def refuses(self, pod: Pod, node: Node, included: Mapping[tuple[Node, str, str], bool]) -> bool:
        """`included`: whether a node passes the pod's node affinity and its tolerations, by these policies' names."""
        return not (self._near(pod, node) and self._apart(pod, node) and self._tolerated(pod, node)) or self._skewed(
            pod, node, included
        )

    def _near(self, pod: Pod, node: Node) -> bool:
        terms = _terms(pod, "podAffinity", REQUIRED)
        if any(term["topologyKey"] not in self.nodes[node] for term in terms):
            return False
        alike = [
            other
            for other in self.pods
            if other.at[0] == node[0] and all(self._selects(term, pod, other, node[0]) for term in terms)
        ]
        if all(any(self._together(other, node, term["topologyKey"]) for other in alike) for term in terms):
            return True
        counted = [other for other in alike if any(term["topologyKey"] in self.nodes[other.at] for term in terms)]
        return not counted and all(self._selects(term, pod, pod, node[0]) for term in terms)

    def _apart(self, pod: Pod, node: Node) -> bool:
        return not any(
            self._selects(term, pod, other, node[0]) and self._together(other, node, term["topologyKey"])
            for term in _terms(pod, "podAntiAffinity", REQUIRED)
            for other in self._in_cluster(node)
        )

    def _tolerated(self, pod: Pod, node: Node) -> bool:
        return not any(
            self._selects(term, other, pod, node[0]) and self._together(other, node, term["topologyKey"])
            for other in self._in_cluster(node)
            for term in _terms(other, "podAntiAffinity", REQUIRED)
        )

    def _skewed(self, pod: Pod, node: Node, included: Mapping[tuple[Node, str, str], bool]) -> bool:
        constraints = _constraints(pod, "DoNotSchedule")
        for constraint in constraints:
            value = self.nodes[node].get(constraint["topologyKey"])
            if value is None:
                return True
            counts = self._domains(pod, constraint, constraints, node[0], included)
            least = min(counts.values(), default=0)
            if len(counts) < constraint.get("minDomains", 1):
                least = 0
            itself = _fulfils(_selector(constraint, pod), pod.labels)
            if counts.get(value, 0) + itself - least > constraint["maxSkew"]:
                return True
        return False

    def _domains(
        self,
        pod: Pod,
        constraint: Json,
        group: list[Json],
        cluster: str,
        included: Mapping[tuple[Node, str, str], bool],
    ) -> dict[str, int]:
        counts: dict[str, int] = {}
        policies = (constraint.get("nodeAffinityPolicy", "Honor"), constraint.get("nodeTaintsPolicy", "Ignore"))
        for node, labels in self.nodes.items():
            if node[0] != cluster or any(other["topologyKey"] not in labels for other in group):
                continue
            if not included[node, *policies]:
                continue
            value = labels[constraint["topologyKey"]]
            counts[value] = counts.get(value, 0) + sum(
                other.at == node
                and other.namespace == pod.namespace
                and not other.ending
                and _selector(constraint, pod) not in ({}, None)
                and _fulfils(_selector(constraint, pod), other.labels)
                for other in self.pods
            )
        return counts

    # --- what weighs ---

    def liking(self, pod: Pod, node: Node, weight: float) -> tuple[float, bool]:
        """The cost of what is preferred, and whether all of it is about zones; zero where nothing is."""
        own = [(item["podAffinityTerm"], item["weight"]) for item in _terms(pod, "podAffinity", PREFERRED)]
        own += [(item["podAffinityTerm"], -item["weight"]) for item in _terms(pod, "podAntiAffinity", PREFERRED)]
        keys = {term["topologyKey"] for term, _ in own}
        total = 0
        for term, value in own:
            for other in self._in_cluster(node):
                if self._selects(term, pod, other, node[0]) and self._together(other, node, term["topologyKey"]):
                    total += value
        anyone = bool(own)
        for other in [*self.pods, pod]:
            theirs = [(item["podAffinityTerm"], item["weight"]) for item in _terms(other, "podAffinity", PREFERRED)]
            theirs += [
                (item["podAffinityTerm"], -item["weight"]) for item in _terms(other, "podAntiAffinity", PREFERRED)
            ]
            theirs += [(term, 1) for term in _terms(other, "podAffinity", REQUIRED)]
            for term, value in theirs:
                if not self._may_select(term, other, pod):
                    continue
                anyone = True
                keys.add(term["topologyKey"])
                about = self._selects(term, other, pod, node[0])
                if other is not pod and other.at[0] == node[0] and about:
                    total += value * self._together(other, node, term["topologyKey"])
        if not anyone:
            return 0.0, True
        scale = sum(abs(value) for _, value in own) or 100
        return weight * (0.5 - 0.5 * (float(total) / (abs(float(total)) + scale))), keys == {ZONE}

    def skew(
        self, pod: Pod, node: Node, weight: float, included: Mapping[tuple[Node, str, str], bool]
    ) -> list[tuple[float, bool]]:
        """The cost of each constraint that is preferred, and whether it is about zones."""
        constraints = _constraints(pod, "ScheduleAnyway")
        found = []
        for constraint in constraints:
            key = constraint["topologyKey"]
            value = self.nodes[node].get(key)
            part = 1.0
            if value is not None:
                counts = self._domains(pod, constraint, constraints, node[0], included)
                above = max(counts.get(value, 0) - (min(counts.values()) if counts else 0), 0)
                part = above / (above + constraint["maxSkew"])
            found.append((weight / len(constraints) * part, key == ZONE))
        return found

    # --- parts ---

    def _in_cluster(self, node: Node) -> list[Pod]:
        return [other for other in self.pods if other.at[0] == node[0]]

    def _together(self, other: Pod, node: Node, key: str) -> bool:
        mine, theirs = self.nodes[node].get(key), self.nodes[other.at].get(key)
        return mine is not None and mine == theirs

    def _selects(self, term: Json, owner: Pod, other: Pod, cluster: str) -> bool:
        named, selector = term.get("namespaces", []), term.get("namespaceSelector")
        if not named and selector is None:
            inside = other.namespace == owner.namespace
        else:
            labels = {"kubernetes.io/metadata.name": other.namespace}
            labels |= self.namespaces.get((cluster, other.namespace), {})
            inside = other.namespace in named or (selector is not None and _fulfils(selector, labels))
        return inside and _fulfils(_selector(term, owner), other.labels)

    def _may_select(self, term: Json, owner: Pod, other: Pod) -> bool:
        """In some cluster, whatever the labels of its namespaces."""
        named, selector = term.get("namespaces", []), term.get("namespaceSelector")
        own = not named and selector is None and other.namespace == owner.namespace
        return (own or selector is not None or other.namespace in named) and _fulfils(
            _selector(term, owner), other.labels
        )


def _terms(pod: Pod, kind: str, when: str) -> list[Json]:
    return list(((pod.spec.get("affinity") or {}).get(kind) or {}).get(when) or [])


def _constraints(pod: Pod, action: str) -> list[Json]:
    return [item for item in pod.spec.get("topologySpreadConstraints", []) if item["whenUnsatisfiable"] == action]


def _selector(term: Json, owner: Pod) -> Json | None:
    selector: Json | None = term.get("labelSelector")
    same = [key for key in term.get("matchLabelKeys", []) if key in owner.labels]
    if selector is None or not same:
        return selector
    further = [{"key": key, "operator": "In", "values": [owner.labels[key]]} for key in same]
    return {**selector, "matchExpressions": [*selector.get("matchExpressions", []), *further]}


def _fulfils(selector: Json | None, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for item in selector.get("matchExpressions", []):
        present, wanted = item["key"] in labels, item["operator"] in {"In", "Exists"}
        fitting = present and (item["operator"] in {"Exists", "DoesNotExist"} or labels[item["key"]] in item["values"])
        if fitting != wanted:
            return False
    return True
