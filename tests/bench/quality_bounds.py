"""How much of its GPUs a fleet could give away at most: a linear programme, solved with HiGHS.

Whoever knew all pods beforehand, might choose which ones run and move them at will, could not do better; so no policy
can. Nodes that are alike are one class. In a class, cpu and memory are one pool, and pods may be divided; that is what
is relaxed. Devices are not: each of them holds a *pattern*, a set of shares that fit on one device together (Gilmore
and Gomory's formulation of cutting stock), since shares that do not add up to devices are most of what is lost.
Patterns are found as they are needed: the dual values say what each share is worth, and the best filling of a device
for those is a knapsack over its thousandths.

    maximise       sum of devices * milli * x[s, c]       x: pods of shape s in class c
    for all s      sum over c of x[s, c]                  <= how often s was drawn
    for all c      sum over s of cpu[s] * x[s, c]         <= cpu of the class; memory alike
    for all c, m   sum over s of devices[s] * x[s, c]     <= sum over p of (shares of m in p) * y[c, p], s with milli m
    for all c      sum over p of y[c, p]                  <= devices of the class; y: those with pattern p

Valid at every step, not only at the end: what is returned adds to the programme's value what patterns that are not in
it could add at the prices of this step (Farley's bound).
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt
from numba import njit

from tests.bench.quality_policies import WHOLE, Floats, Ints, Nodes, Shapes

# A pattern that promises less is left out; the bound is larger by what all devices together might have gained.
_WORTH = 1e-6


@dataclass(frozen=True, slots=True)
class NodeClass:
    """Nodes that are alike: `count` of them, each with so much."""

    cpu: int
    memory: int
    devices: int
    model: int
    count: int


def node_classes(nodes: Nodes) -> list[NodeClass]:
    gpus = (nodes.gpus > 0).sum(axis=1)
    kinds, counts = np.unique(
        np.stack((nodes.cpu, nodes.memory, gpus, nodes.model), axis=1), axis=0, return_counts=True
    )
    return [
        NodeClass(cpu, memory, devices, model, count)
        for (cpu, memory, devices, model), count in zip(kinds.tolist(), counts.tolist(), strict=True)
    ]


def most_taken(nodes: Nodes, shapes: Shapes, order: Ints) -> float:
    """Thousandths of GPUs that no placement of these pods, given as rows of `shapes`, can exceed."""
    drawn = np.bincount(order, minlength=len(shapes.what))
    return _Programme(node_classes(nodes), shapes, drawn).solve()


@njit(cache=True)
def _best_pattern(millis: Ints, worth: Floats) -> tuple[float, Ints]:
    """The most valuable filling of one device, and how many shares of each size are in it: an unbounded knapsack."""
    best, choice = np.zeros(WHOLE + 1), np.full(WHOLE + 1, -1)
    for size in range(1, WHOLE + 1):
        best[size], choice[size] = best[size - 1], -1
        for index in range(len(millis)):
            if millis[index] <= size and best[size - millis[index]] + worth[index] > best[size]:
                best[size], choice[size] = best[size - millis[index]] + worth[index], index
    pattern, size = np.zeros(len(millis), np.int64), WHOLE
    while size > 0:
        if choice[size] < 0:
            size -= 1
        else:
            pattern[choice[size]] += 1
            size -= millis[choice[size]]
    return best[WHOLE], pattern


class _Programme:
    """Rows: what was drawn, by shape; then for each class cpu, memory, devices, and shares by size."""

    def __init__(self, classes: list[NodeClass], shapes: Shapes, drawn: npt.NDArray[np.intp]) -> None:
        self._classes = classes
        self._shapes = [
            (*shapes.what[row].tolist(), int(shapes.models[row]), int(drawn[row]))
            for row in np.flatnonzero((drawn > 0) & (shapes.what[:, 2] > 0))
        ]
        self._millis = np.unique([shape[3] for shape in self._shapes]).astype(np.int64)
        self._size_of = {milli: index for index, milli in enumerate(self._millis.tolist())}
        self._known: set[tuple[int, ...]] = set()
        self._solver = highspy.Highs()  # type: ignore[no-untyped-call]
        self._solver.setOptionValue("output_flag", False)
        # Of one core, and in one way: the same figure everywhere.
        self._solver.setOptionValue("threads", 1)
        self._solver.changeObjectiveSense(highspy.ObjSense.kMaximize)
        self._add_rows()
        self._add_pods()
        for size in range(len(self._millis)):
            pattern = np.zeros(len(self._millis), np.int64)
            pattern[size] = WHOLE // self._millis[size]
            self._add_pattern(pattern)

    def _first_row(self, index: int) -> int:
        return len(self._shapes) + index * (3 + len(self._millis))

    def _add_rows(self) -> None:
        def add(most: float) -> None:
            self._solver.addRow(-highspy.kHighsInf, most, 0, np.array([], np.int32), np.array([], np.float64))

        for *_, drawn in self._shapes:
            add(drawn)
        for kind in self._classes:
            for amount in (kind.cpu, kind.memory, kind.devices):
                add(amount * kind.count)
            for _ in self._millis:
                add(0)

    def _add_column(self, gain: float, entries: dict[int, float]) -> None:
        rows, values = np.array(list(entries), np.int32), np.array(list(entries.values()), np.float64)
        self._solver.addCol(gain, 0.0, highspy.kHighsInf, len(rows), rows, values)

    def _add_pods(self) -> None:
        for number, (cpu, memory, devices, milli, models, _) in enumerate(self._shapes):
            for index, kind in enumerate(self._classes):
                fits = cpu <= kind.cpu and memory <= kind.memory and devices <= kind.devices
                if fits and (not models or models & kind.model):
                    row = self._first_row(index)
                    amounts = {row: cpu, row + 1: memory, row + 3 + self._size_of[milli]: devices}
                    self._add_column(devices * milli, {number: 1, **amounts})

    def _add_pattern(self, pattern: Ints) -> None:
        """To all classes: what is worth having in one of them is in the others, too, more often than not."""
        key = tuple(pattern.tolist())
        if key in self._known:
            return
        self._known.add(key)
        shares = {size: count for size, count in enumerate(key) if count}
        for index in range(len(self._classes)):
            row = self._first_row(index)
            self._add_column(0.0, {row + 2: 1, **{row + 3 + size: -count for size, count in shares.items()}})

    def solve(self) -> float:
        """Ends: there are finitely many patterns, and each turn but the last adds one."""
        if not self._shapes:
            return 0.0
        while True:
            self._solver.run()
            assert self._solver.getModelStatus() == highspy.HighsModelStatus.kOptimal, "the programme was not solved"
            prices = np.array(self._solver.getSolution().row_dual)
            bound, known = self._solver.getInfo().objective_function_value, len(self._known)
            for index, kind in enumerate(self._classes):
                row = self._first_row(index)
                worth = np.maximum(prices[row + 3 : row + 3 + len(self._millis)], 0.0)
                best, pattern = _best_pattern(self._millis, worth)
                gain = max(best - prices[row + 2], 0.0)
                bound += gain * kind.devices * kind.count
                if gain > _WORTH:
                    self._add_pattern(pattern)
            if len(self._known) == known:
                return float(bound)
