"""Some rows of the node table as one request sees them; what filters and costs share is computed once."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from services.scheduler.decision.arrays import FloatArray, IntArray, Rows
from services.scheduler.decision.nodes import NodeTable
from services.scheduler.decision.requests import Request

_NATIVE = slice(0, 2)  # the columns of cpu and memory


class NodeView:
    """`rows` of `table`, for pods that ask for `request`."""

    def __init__(self, table: NodeTable, rows: Rows, request: Request) -> None:
        self.table = table
        self.rows = rows
        self.request = request

    @cached_property
    def free(self) -> IntArray:
        """What is free, by row and resource column."""
        return self.table.free[self.rows]

    @cached_property
    def fractions(self) -> FloatArray:
        """The parts of cpu and memory that would be taken with one more such pod, at most 1, by row."""
        allocatable = self.table.allocatable[self.rows, _NATIVE]
        taken = allocatable - self.free[:, _NATIVE] + self.request.vector[_NATIVE]
        return np.asarray(np.minimum(taken / np.maximum(allocatable, 1), 1.0))
