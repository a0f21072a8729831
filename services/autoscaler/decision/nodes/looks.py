"""Looks at the fleet as `fleet.decisions` has them, and back: what pods and nodes have in common is written once.

A look is thousands of pods that are alike, and a decision may rest on three of them. So all looks of one decision are
one document, in which pods, nodes and what they ask for are numbers in tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from services.autoscaler.decision.nodes.scheduling import Demand, PodFacts, Rules, Term
from services.autoscaler.decision.nodes.seen import Cluster, Node, NodeGroup, NodeKey, Pod, PodSet, Seen
from shared.model.pods import PodShape
from shared.model.taints import Taint

Json = dict[str, Any]

_SHAPE: Final[TypeAdapter[PodShape]] = TypeAdapter(PodShape)
_RULES: Final[TypeAdapter[Rules | None]] = TypeAdapter(Rules | None)
_TERMS: Final[TypeAdapter[tuple[Term, ...]]] = TypeAdapter(tuple[Term, ...])
_TAINTS: Final[TypeAdapter[tuple[Taint, ...]]] = TypeAdapter(tuple[Taint, ...])
_CLUSTERS: Final[TypeAdapter[tuple[Cluster, ...]]] = TypeAdapter(tuple[Cluster, ...])
_GROUPS: Final[TypeAdapter[tuple[NodeGroup, ...]]] = TypeAdapter(tuple[NodeGroup, ...])
# Of a node, what it has in common with others.
_ALIKE: Final = ("cluster", "group", "zone", "price", "ready", "unschedulable", "kept")


class _Table:
    """Values, each once, known by their number. What they are found by is their key."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self.values: list[Any] = []

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def number(self, key: object) -> int:
        return self._numbers[key]

    def add(self, key: object, value: Any) -> int:
        self._numbers[key] = len(self.values)
        self.values.append(value)
        return self._numbers[key]


class LooksWriter:
    """Of one decision; `document` is what was written of all."""

    def __init__(self) -> None:
        self._demands, self._facts, self._pods, self._kinds, self._nodes = (_Table() for _ in range(5))
        # Facts are told apart by what they are and not by what they say: kept, so that no other has their id.
        self._kept: list[PodFacts] = []

    def document(self) -> Json:
        return {
            "demands": self._demands.values,
            "facts": self._facts.values,
            "pods": self._pods.values,
            "kinds": self._kinds.values,
            "nodes": self._nodes.values,
        }

    def write(self, seen: Seen) -> Json:
        return {
            "clusters": _CLUSTERS.dump_python(seen.clusters, mode="json", by_alias=True),
            "groups": _GROUPS.dump_python(seen.groups, mode="json", by_alias=True),
            "nodes": [self._node(node) for node in seen.nodes],
            "pending": [self._pod_set(item) for item in seen.pending],
            "headRoom": [self._pod_set(item) for item in seen.head_room],
            "budgets": dict(seen.budgets),
        }

    def _node(self, node: Node) -> int:
        pods: list[Any] = []
        for pod in node.pods:
            pods += (self._pod(pod), pod.key)
        own = [name for name, value in node.labels.items() if value == node.name]
        entry = [node.name, self._kind(node, own), own, pods]
        key = orjson.dumps(entry)
        return self._nodes.number(key) if key in self._nodes else self._nodes.add(key, entry)

    def _kind(self, node: Node, own: Sequence[str]) -> int:
        alike = {name: getattr(node, name) for name in _ALIKE}
        # With their places among all labels.
        labels = {name: ("" if name in own else value) for name, value in node.labels.items()}
        entry = alike | {
            "allocatable": dict(node.allocatable),
            "labels": labels,
            "taints": _TAINTS.dump_python(node.taints, mode="json", by_alias=True),
        }
        key = orjson.dumps(entry)
        return self._kinds.number(key) if key in self._kinds else self._kinds.add(key, entry)

    def _pod(self, pod: Pod) -> int:
        """The number of what it is beside its name."""
        demand, facts = self._demand(pod.demand), self._of_facts(pod.facts)
        key = (demand, facts, pod.daemon, pod.pinned, pod.budgets, pod.ready, pod.leaving)
        return self._pods.number(key) if key in self._pods else self._pods.add(key, list(key))

    def _pod_set(self, item: PodSet) -> Json:
        return {
            "key": item.key,
            "demand": self._demand(item.demand),
            "facts": self._of_facts(item.facts),
            "count": item.count,
            "priority": item.priority,
            "requestedAt": item.requested_at,
            "desired": item.desired,
            "placed": [list(key) for key in item.placed],
        }

    def _demand(self, demand: Demand) -> int:
        if demand in self._demands:
            return self._demands.number(demand)
        entry = {
            "shape": _SHAPE.dump_python(demand.shape, mode="json", by_alias=True, exclude_none=True),
            "clusters": list(demand.clusters),
            "selector": demand.selector.decode(),
            "rules": _RULES.dump_python(demand.rules, mode="json", by_alias=True),
        }
        return self._demands.add(demand, entry)

    def _of_facts(self, facts: PodFacts | None) -> int:
        if facts is None:
            return -1
        if id(facts) in self._facts:
            return self._facts.number(id(facts))
        self._kept.append(facts)
        entry = {
            "namespace": facts.namespace,
            "labels": list(facts.labels.items()),
            "terms": _TERMS.dump_python(facts.terms, mode="json", by_alias=True),
            "ending": facts.ending,
        }
        return self._facts.add(id(facts), entry)


class LooksReader:
    """Raises ValueError, KeyError, IndexError or TypeError for what nobody wrote."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._facts = [_facts(entry) for entry in document["facts"]]
        self._demand = lru_cache(maxsize=None)(lambda number: _demand(document["demands"][number]))
        self._node = lru_cache(maxsize=None)(self._made)

    def read(self, look: Mapping[str, Any]) -> Seen:
        return Seen(
            clusters=_CLUSTERS.validate_python(look["clusters"]),
            groups=_GROUPS.validate_python(look["groups"]),
            nodes=tuple(self._node(number) for number in look["nodes"]),
            pending=tuple(self._pod_set(item) for item in look["pending"]),
            head_room=tuple(self._pod_set(item) for item in look["headRoom"]),
            budgets=look["budgets"],
        )

    def _made(self, number: int) -> Node:
        name, kind, own, pods = self._document["nodes"][number]
        alike = self._document["kinds"][kind]
        return Node(
            name=name,
            allocatable=alike["allocatable"],
            labels={label: (name if label in own else value) for label, value in alike["labels"].items()},
            taints=_TAINTS.validate_python(alike["taints"]),
            pods=tuple(replace(self._pod(what), key=key) for what, key in zip(pods[::2], pods[1::2], strict=True)),
            **{field: alike[field] for field in _ALIKE},
        )

    def _pod(self, number: int) -> Pod:
        demand, facts, daemon, pinned, budgets, ready, leaving = self._document["pods"][number]
        return Pod(
            key="",
            demand=self._demand(demand),
            facts=self._facts[facts] if facts >= 0 else None,
            daemon=daemon,
            pinned=pinned,
            budgets=tuple(budgets),
            ready=ready,
            leaving=leaving,
        )

    def _pod_set(self, item: Mapping[str, Any]) -> PodSet:
        return PodSet(
            key=item["key"],
            demand=self._demand(item["demand"]),
            count=item["count"],
            priority=item["priority"],
            requested_at=item["requestedAt"],
            desired=item["desired"],
            placed=tuple(NodeKey(*key) for key in item["placed"]),
            facts=self._facts[item["facts"]] if item["facts"] >= 0 else None,
        )


def _demand(entry: Mapping[str, Any]) -> Demand:
    return Demand(
        _SHAPE.validate_python(entry["shape"]),
        tuple(entry["clusters"]),
        entry["selector"].encode(),
        _RULES.validate_python(entry["rules"]),
    )


def _facts(entry: Mapping[str, Any]) -> PodFacts:
    labels = tuple((name, value) for name, value in entry["labels"])
    return PodFacts(entry["namespace"], dict, labels, _TERMS.validate_python(entry["terms"]), ending=entry["ending"])
