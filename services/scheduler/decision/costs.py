"""Cost terms: how good a node is for a pod that may go there. Each is in [0, 1], and less is better.

The cost of a node is `TIE_WEIGHT · order`, which decides among equals by name, plus `Σ weight · term`: first the terms
here, which depend on facts of a node alone, then those of `kernel`, which depend on what runs there and are computed
again after every placement. The spread of replicas is added by `profiles.Profile.best`, since it depends on the pod
set and not on the shape.
"""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.arrays import FloatArray
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.interface import CostPlugin, CostTerm
from services.scheduler.decision.requests import Request
from services.scheduler.decision.views import NodeView
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


def built_in_costs(config: SchedulerConfig) -> tuple[CostPlugin, ...]:
    """The terms that do not depend on what runs on a node, in the order in which they are added."""
    weights = config.weights
    return (
        CostPlugin("price", weights.price, lambda _shape, _request: Price()),
        CostPlugin("load", weights.load, lambda _shape, _request: MeasuredLoad()),
    )


def costs_for(shape: PodShape, request: Request, config: SchedulerConfig) -> list[tuple[CostTerm, float]]:
    """The built-in terms that this shape needs, with their weights; those with weight zero are left out."""
    return [
        (made, plugin.weight)
        for plugin in built_in_costs(config)
        if plugin.weight and (made := plugin.make(shape, request)) is not None
    ]
