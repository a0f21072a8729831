"""Cost terms: how good a node is for a pod that may go there. Each is in [0, 1], and less is better.

A term is asked for any rows of the node table. `dynamic` terms depend on what runs on a node and are asked again after
every placement. The cost of a node is `Σ weight · term`, summed in the order of `terms_for`, the others' first, plus
`TIE_WEIGHT · order`, which decides among equals by name. The spread of replicas is added by `profiles.Profile.best`,
since it depends on the pod set and not on the shape.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from services.scheduler.decision.arrays import HALF, ONE, FloatArray
from services.scheduler.decision.config import Fit, SchedulerConfig
from services.scheduler.decision.requests import Request
from services.scheduler.decision.views import NodeView
from shared.model.pods import WHOLE_DEVICE

# Smaller than any difference that a term makes on purpose, larger than rounding.
TIE_WEIGHT = 1e-7
_WHOLE = np.array(float(WHOLE_DEVICE))


class CostTerm(Protocol):
    """`cost` has a number in [0, 1] for each row of the view, in an array of its own that the caller may change."""

    name: str
    dynamic: bool

    def cost(self, view: NodeView) -> FloatArray: ...


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


class ResourceFit:
    """The mean part of cpu and memory that would be free (`most`) or taken (`least`), with this pod."""

    name = "fit"
    dynamic = True

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    def cost(self, view: NodeView) -> FloatArray:
        cpu, memory = view.fractions
        mean = cpu + memory
        mean *= HALF
        return np.subtract(ONE, mean, out=mean) if self._fit is Fit.MOST_ALLOCATED else mean


class ResourceBalance:
    """The standard deviation of the parts of cpu and memory that would be taken: NodeResourcesBalancedAllocation."""

    name = "balance"
    dynamic = True

    def cost(self, view: NodeView) -> FloatArray:
        cpu, memory = view.fractions
        deviation = cpu - memory
        np.abs(deviation, out=deviation)
        deviation *= HALF
        return deviation


class DeviceFragmentation:
    """What a placement would leave useless for others, of GPUs.

    A pod without GPUs: the part of the node's GPUs that is free, since cpu and memory taken there may strand them.
    A pod that shares GPUs: what stays free, but cut, on the tightest device that fits. A pod with whole GPUs: the
    part of the node's GPUs that would stay free.
    """

    name = "fragmentation"
    dynamic = True

    def __init__(self, request: Request) -> None:
        self._request = request
        # Where no device fits, the cost does not matter; it is 1.
        self._milli = np.array(request.milli, np.int16)
        self._refused = np.array(WHOLE_DEVICE + request.milli, np.int16)

    def cost(self, view: NodeView) -> FloatArray:
        table, request = view.table, self._request
        column = table.columns.index.get(table.columns.gpu_resource)
        if column is None:
            return np.zeros(len(view.rows))
        if request.devices and request.milli < WHOLE_DEVICE:
            left = np.where(view.devices_fit, view.devices, self._refused).min(axis=1)
            left -= self._milli
            return np.asarray(left / _WHOLE)
        allocatable = table.allocatable[view.rows, column]
        left = np.maximum(view.free[:, column] - request.vector[column], 0)
        return np.asarray(left / np.maximum(allocatable, 1))


def terms_for(request: Request, config: SchedulerConfig) -> list[tuple[CostTerm, float]]:
    """The terms with their weights; those with weight zero are left out."""
    weights = config.weights
    terms: list[tuple[CostTerm, float]] = [
        (Price(), weights.price),
        (MeasuredLoad(), weights.load),
        (ResourceFit(config.fit), weights.fit),
        (ResourceBalance(), weights.balance),
        (DeviceFragmentation(request), weights.fragmentation),
    ]
    return [(term, weight) for term, weight in terms if weight]
