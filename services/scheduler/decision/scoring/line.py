"""In which order what waits for room is tried: by priority, then by age, and of about the same age the largest first.

Small pods fit beside large ones, and not the other way round: whoever takes large ones first needs fewer nodes. In bins
of one size first-fit decreasing needs at most 11/9 of the least number, first-fit up to 17/10 (D. S. Johnson,
"Near-optimal bin packing algorithms", MIT, 1973). How large a pod is says its dominant share, the largest part that it
asks for of anything that all nodes have (A. Ghodsi et al., "Dominant resource fairness", NSDI 2011).

Nobody starves: time is cut into windows, and what was asked for in a later one never goes ahead. The order follows from
requests and nodes alone, and from no clock.
"""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.table.arrays import FloatArray
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.requests import Request

# Priority (negative), window, size (negative), when it was requested, and what: the least is tried first.
Place = tuple[int, int, float, int, str]


class Line:
    """Of those that wait for room on the nodes of a table. Without a window, of 0 ms, they are in the order of age."""

    def __init__(self, table: NodeTable, window_ms: int) -> None:
        self._table = table
        self._window_ms = window_ms
        self._total: FloatArray = np.zeros(0, np.float64)
        self._total_at = (-1, -1)

    def size(self, request: Request) -> float:
        """The largest part that a pod asks for of what all nodes have; what no node has does not count."""
        total = self._capacity()
        vector = request.vector
        some = total > 0
        return float((vector[some] / total[some]).max(initial=0.0))

    def place(self, priority: int, requested_at: int, key: str, size: float) -> Place:
        """`requested_at` in ms."""
        if not self._window_ms:
            return -priority, requested_at, 0.0, requested_at, key
        return -priority, requested_at // self._window_ms, -size, requested_at, key

    def _capacity(self) -> FloatArray:
        table = self._table
        version = (table.facts_log.end, table.columns.width)
        if self._total_at != version:
            self._total_at = version
            # Whole numbers: the sum is the same in whatever order nodes became known.
            self._total = table.allocatable[table.alive].sum(axis=0).astype(np.float64)
        return self._total
