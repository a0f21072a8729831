"""What nodes cost for facts alone is the same for all pods that differ in nothing but how much they ask for.

Of a fleet's shapes most do. The first one looks at every node; who comes next reads what it found.
"""

from __future__ import annotations

from collections.abc import Callable

from services.scheduler.decision.table.arrays import FloatArray
from services.scheduler.decision.table.nodes import NodeTable
from shared.model.pods import PodShape

_Version = tuple[int, float, int, int]


class FactCosts:
    """At most `size` arrays, of which the oldest makes room; with zero nothing is shared."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[tuple[object, ...], tuple[_Version, FloatArray]] = {}

    def of(self, shape: PodShape, table: NodeTable, compute: Callable[[], FloatArray]) -> FloatArray:
        """An array by row, to be read only: `compute`, or what it gave for a shape that is like this one."""
        if not self._size:
            return compute()
        terms = (shape.node_selector, shape.affinity, shape.preferred, shape.tolerations, shape.images, shape.claims)
        version = (table.facts_log.end, table.price_scale, table.images.version, table.volumes.version)
        known = self._known.get(terms)
        if known is None or known[0] != version:
            self._known.pop(terms, None)
            if len(self._known) >= self._size:
                del self._known[next(iter(self._known))]
            known = self._known[terms] = version, compute()
        return known[1]
