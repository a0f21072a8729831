"""Cost terms: how good a node is for a pod that may go there. Each is in [0, 1], and less is better.

The cost of a node is `TIE_WEIGHT · order`, which decides among equals by name, plus `Σ weight · term`: first the terms
here, which depend on facts of a node alone, then those of `kernel`, which depend on what runs there and are computed
again after every placement. The spread of replicas is added by `profiles.Profile.best`, since it depends on the pod
set and not on the shape.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from services.scheduler.decision.arrays import FloatArray
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.views import NodeView

# Smaller than any difference that a term makes on purpose, larger than rounding.
TIE_WEIGHT = 1e-7


class CostTerm(Protocol):
    """`cost` has a number in [0, 1] for each row of the view, in an array of its own that the caller may change."""

    name: str

    def cost(self, view: NodeView) -> FloatArray: ...


class Price:
    """The node's price as a part of the highest in the fleet."""

    name = "price"

    def cost(self, view: NodeView) -> FloatArray:
        return np.asarray(view.table.price[view.rows] / view.table.price_scale)


class MeasuredLoad:
    """The mean of the measured use of cpu and memory, whatever was requested."""

    name = "load"

    def cost(self, view: NodeView) -> FloatArray:
        return view.table.load[view.rows]


def fact_terms(config: SchedulerConfig) -> list[tuple[CostTerm, float]]:
    """The terms that do not depend on what runs on a node, with their weights; those with weight zero are left out."""
    terms: list[tuple[CostTerm, float]] = [(Price(), config.weights.price), (MeasuredLoad(), config.weights.load)]
    return [(term, weight) for term, weight in terms if weight]
