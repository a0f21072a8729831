"""What was found for each node class, until a class number changes its meaning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from services.scheduler.decision.table.arrays import FloatArray, Rows
from services.scheduler.decision.table.classes import NodeClass
from services.scheduler.decision.table.views import NodeView


class ByClass:
    """`evaluate` is asked once for each class of nodes."""

    def __init__(self, evaluate: Callable[[NodeClass], float]) -> None:
        self._evaluate = evaluate
        self._known: dict[int, float] = {}
        self._version = -1

    def values(self, view: NodeView) -> FloatArray:
        """By row."""
        classes = view.table.classes
        if self._version != classes.version:
            self._known.clear()
            self._version = classes.version
        numbers: Rows = view.table.node_class[view.rows]
        # Class numbers are small: counting them is far cheaper than sorting the rows.
        by_number = np.zeros(int(numbers.max()) + 1 if len(numbers) else 0, np.float64)
        for number in np.flatnonzero(np.bincount(numbers)).tolist():
            by_number[number] = self._value(number, classes[number])
        return by_number[numbers]

    def _value(self, number: int, node_class: NodeClass) -> float:
        value = self._known.get(number)
        if value is None:
            value = self._known[number] = self._evaluate(node_class)
        return value
