"""Cost terms: how good a node is for a pod that may go there. Each is in [0, 1], and less is better.

The cost of a node is `TIE_WEIGHT · order`, which decides among equals by name, plus `Σ weight · term`: first the terms
here, which depend on facts of a node alone, then those of `kernel`, which depend on what runs there and are computed
again after every placement. The spread of replicas is added by `profiles.Profile.best`, since it depends on the pod
set and not on the shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.interface import CostPlugin, CostTerm
from services.scheduler.decision.scoring.filters import names_nodes
from services.scheduler.decision.table.arrays import FloatArray
from services.scheduler.decision.table.by_class import ByClass
from services.scheduler.decision.table.classes import NodeClass
from services.scheduler.decision.table.images import normalized
from services.scheduler.decision.table.requests import Request
from services.scheduler.decision.table.views import NodeView
from shared.model.pods import PodShape

# Smaller than any difference that a term makes on purpose, larger than rounding.
TIE_WEIGHT = 1e-7


class Price:
    """The node's price as a part of the highest in the fleet."""

    name = "price"
    dynamic = False

    def cost(self, view: NodeView) -> FloatArray:
        return np.asarray(view.table.price[view.rows] / view.table.price_scale)


class MeasuredLoad:
    """The mean of the measured use of cpu and memory, whatever was requested."""

    name = "load"
    dynamic = False

    def cost(self, view: NodeView) -> FloatArray:
        return view.table.load[view.rows]


class NodePreference:
    """Preferred node affinity: the part of the terms' weights that does not match the node.

    As kube-scheduler's NodeAffinity orders nodes; it divides by the largest sum among the nodes that pass, here it is
    the sum of all weights, so that a node's cost does not depend on others.
    """

    name = "node_affinity"
    dynamic = False

    def __init__(self, shape: PodShape) -> None:
        # A term that says nothing selects nothing, and is not waited for.
        terms = [item for item in shape.preferred if item.preference.match_expressions or item.preference.match_fields]
        self._terms = terms
        self._sum = max(sum(item.weight for item in terms), 1)
        self._by_node = names_nodes(item.preference for item in terms)
        self._classes = ByClass(lambda node_class: self._missing(node_class.labels_of(""), ""))

    def cost(self, view: NodeView) -> FloatArray:
        if not self._by_node:
            return self._classes.values(view)
        table = view.table
        numbers = table.node_class[view.rows].tolist()
        costs = (
            self._missing(table.classes[number].labels_of(table.names[row]), table.names[row])
            for row, number in zip(view.rows.tolist(), numbers, strict=True)
        )
        return np.fromiter(costs, np.float64, len(view.rows))

    def _missing(self, labels: Mapping[str, str], name: str) -> float:
        missing = sum(item.weight for item in self._terms if not item.preference.matches(labels, name))
        return missing / self._sum


class SoftTaints:
    """`n / (n + 1)` for n taints with effect PreferNoSchedule that are not tolerated.

    Ordered as by kube-scheduler's TaintToleration, which divides by the most of any node that passes.
    """

    name = "taints"
    dynamic = False

    def __init__(self, shape: PodShape) -> None:
        # Kubernetes: of tolerations for other effects none counts.
        self._tolerations = [item for item in shape.tolerations if item.effect in {"", "PreferNoSchedule"}]
        self._classes = ByClass(self._of)

    def cost(self, view: NodeView) -> FloatArray:
        if not view.table.classes.softly_tainted:
            return np.zeros(len(view.rows), np.float64)
        return self._classes.values(view)

    def _of(self, node_class: NodeClass) -> float:
        soft = [taint for taint in node_class.taints if taint.effect == "PreferNoSchedule"]
        count = sum(not any(item.tolerates(taint) for item in self._tolerations) for taint in soft)
        return count / (count + 1)


class ImagesAreThere:
    """How much of its images a pod would have to wait for; see `images`."""

    name = "images"
    dynamic = False

    def __init__(self, shape: PodShape) -> None:
        self._images = [normalized(image) for image in shape.images]

    def cost(self, view: NodeView) -> FloatArray:
        return view.table.images.cost(self._images, len(self._images), view.table.rows)[view.rows]


def built_in_costs(config: SchedulerConfig) -> tuple[CostPlugin, ...]:
    """The terms that do not depend on what runs on a node, in the order in which they are added."""
    weights = config.weights
    return (
        CostPlugin("price", weights.price, lambda _shape, _request: Price()),
        CostPlugin("load", weights.load, lambda _shape, _request: MeasuredLoad()),
        CostPlugin("node_affinity", weights.node_affinity, _preference),
        CostPlugin("images", weights.images, lambda shape, _request: ImagesAreThere(shape) if shape.images else None),
        CostPlugin("taints", weights.taints, lambda shape, _request: SoftTaints(shape)),
    )


def _preference(shape: PodShape, _request: Request) -> CostTerm | None:
    return NodePreference(shape) if shape.preferred else None


def costs_for(shape: PodShape, request: Request, config: SchedulerConfig) -> list[tuple[CostTerm, float]]:
    """The built-in terms that this shape needs, with their weights; those with weight zero are left out."""
    return [
        (made, plugin.weight)
        for plugin in built_in_costs(config)
        if plugin.weight and (made := plugin.make(shape, request)) is not None
    ]
