"""Filters: which nodes a pod may go to. Semantics and words are kube-scheduler's.

A filter is made for one shape and asked for any rows of the node table; it answers with a mask, and with its reasons.
Those that depend on facts of a node alone are asked when these change, `dynamic` ones, which depend on what runs there,
after every placement. Whether resources and devices are free is not here: `kernel` has these filters, and `shortage`
says whom they refuse. What a shape does not need is not made.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from services.scheduler.decision.interface import Filter, FilterPlugin, Reasons
from services.scheduler.decision.scoring.volumes import VolumesAreReachable
from services.scheduler.decision.table.arrays import BoolArray
from services.scheduler.decision.table.by_class import ByClass
from services.scheduler.decision.table.classes import HOSTNAME_LABEL, NodeClass
from services.scheduler.decision.table.requests import Request
from services.scheduler.decision.table.views import NodeView
from shared.model.pods import PodShape
from shared.model.selectors import NodeSelectorTerm
from shared.model.taints import Taint

UNSCHEDULABLE_TAINT = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
RESOURCES, DEVICES = "resources", "devices"
# In the compiled kernel.
IN_KERNEL = (RESOURCES, DEVICES)
_HARD_EFFECTS = frozenset({"NoSchedule", "NoExecute"})


class NodeIsReady:
    name = "ready"
    dynamic = False

    def mask(self, view: NodeView) -> BoolArray:
        return view.table.ready[view.rows]

    def reasons(self, view: NodeView) -> Reasons:
        yield "node(s) were not ready", ~self.mask(view)


class NodeIsSchedulable:
    name = "unschedulable"
    dynamic = False

    def mask(self, view: NodeView) -> BoolArray:
        return ~view.table.unschedulable[view.rows]

    def reasons(self, view: NodeView) -> Reasons:
        yield "node(s) were unschedulable", ~self.mask(view)


class TaintsAreTolerated:
    """Evaluated once for each node class."""

    name = "taints"
    dynamic = False

    def __init__(self, shape: PodShape) -> None:
        self._tolerations = shape.tolerations
        self._verdicts = ByClass(lambda node_class: self.untolerated(node_class.taints) is None)

    def untolerated(self, taints: Iterable[Taint]) -> Taint | None:
        for taint in taints:
            if taint.effect in _HARD_EFFECTS and not any(item.tolerates(taint) for item in self._tolerations):
                return taint
        return None

    def mask(self, view: NodeView) -> BoolArray:
        return self._verdicts.values(view) > 0

    def reasons(self, view: NodeView) -> Reasons:
        numbers = view.table.node_class[view.rows]
        for number in np.flatnonzero(np.bincount(numbers)).tolist():
            taint = self.untolerated(view.table.classes[number].taints)
            if taint is not None:
                text = f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
                yield text, np.asarray(numbers == number)


class SelectorMatches:
    """`nodeSelector` and required node affinity; once for each class, unless they name single nodes."""

    name = "selector"
    dynamic = False

    def __init__(self, shape: PodShape) -> None:
        self._labels = dict(shape.node_selector)
        self._affinity = shape.affinity
        self._verdicts = ByClass(lambda node_class: self._matches(node_class, ""))
        terms = shape.affinity.node_selector_terms if shape.affinity is not None else ()
        self._by_node = HOSTNAME_LABEL in self._labels or names_nodes(terms)

    @staticmethod
    def needed(shape: PodShape) -> bool:
        return bool(shape.node_selector) or shape.affinity is not None

    def mask(self, view: NodeView) -> BoolArray:
        if self._by_node:
            return self._mask_by_node(view)
        return self._verdicts.values(view) > 0

    def reasons(self, view: NodeView) -> Reasons:
        yield "node(s) didn't match Pod's node affinity/selector", ~self.mask(view)

    def _mask_by_node(self, view: NodeView) -> BoolArray:
        table = view.table
        numbers = table.node_class[view.rows].tolist()
        verdicts = (
            bool(table.alive[row]) and self._matches(table.classes[number], table.names[row])
            for row, number in zip(view.rows.tolist(), numbers, strict=True)
        )
        return np.fromiter(verdicts, np.bool_, len(view.rows))

    def _matches(self, node_class: NodeClass, name: str) -> bool:
        labels = node_class.labels_of(name)
        if any(labels.get(key) != value for key, value in self._labels.items()):
            return False
        return self._affinity is None or self._affinity.matches(labels, name)


class PortsAreFree:
    name = "ports"
    dynamic = True

    @staticmethod
    def needed(request: Request) -> bool:
        return bool(request.ports)

    def mask(self, view: NodeView) -> BoolArray:
        return np.isin(view.rows, view.table.ports.taken(view.request.ports), invert=True)

    def reasons(self, view: NodeView) -> Reasons:
        yield "node(s) didn't have free ports for the requested pod ports", ~self.mask(view)


def names_nodes(terms: Iterable[NodeSelectorTerm]) -> bool:
    """Whether these say anything of single nodes, rather than of classes of them."""
    return any(
        term.match_fields or any(item.key == HOSTNAME_LABEL for item in term.match_expressions) for term in terms
    )


def _schedulable(shape: PodShape, _request: Request) -> Filter | None:
    tolerated = any(item.tolerates(UNSCHEDULABLE_TAINT) for item in shape.tolerations)
    return None if tolerated else NodeIsSchedulable()


# In the order in which reasons are given.
BUILT_IN: tuple[FilterPlugin, ...] = (
    FilterPlugin("ready", lambda _shape, _request: NodeIsReady()),
    FilterPlugin("unschedulable", _schedulable),
    FilterPlugin("selector", lambda shape, _request: SelectorMatches(shape) if SelectorMatches.needed(shape) else None),
    FilterPlugin("taints", lambda shape, _request: TaintsAreTolerated(shape)),
    FilterPlugin("volumes", lambda shape, _request: VolumesAreReachable(shape) if shape.claims else None),
    FilterPlugin("ports", lambda _shape, request: PortsAreFree() if PortsAreFree.needed(request) else None),
)


def filters_for(shape: PodShape, request: Request) -> list[Filter]:
    """All built-in filters that this shape needs, in the order in which reasons are given."""
    return [made for plugin in BUILT_IN if (made := plugin.make(shape, request)) is not None]
