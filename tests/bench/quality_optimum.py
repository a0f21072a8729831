"""The most that a small fleet can give away of its GPUs, proven by CP-SAT: what policies are measured against.

Nothing is relaxed: pods are whole, each on one node, and shares of GPUs on one device each. Found for somebody who
knows all pods beforehand and runs those that he likes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from ortools.sat.python import cp_model

from tests.bench.quality_policies import DEVICES, WHOLE, Ints, Nodes, Shapes

# Work that the solver may do, in its own unit, about seconds: where it ends does not depend on the machine's load.
_WORK = 5.0
# Of a thousandth of a GPU.
_EXACT = 0.01

_Variable = cp_model.IntVar


class Optimum(NamedTuple):
    """Thousandths of GPUs: the best that was found, and what is proven to be out of reach beyond."""

    found: int
    bound: int

    @property
    def proven(self) -> bool:
        return self.found == self.bound


def optimum(nodes: Nodes, shapes: Shapes, order: Ints, most: float, work: float = _WORK) -> Optimum:
    """Of the pods, given as rows of `shapes`; `most` is a bound that is known (`quality_bounds.most_taken`)."""
    drawn = np.bincount(order, minlength=len(shapes.what))
    model = cp_model.CpModel()
    asked = np.flatnonzero((drawn > 0) & (shapes.what[:, 2] > 0)).tolist()
    placed = {
        (shape, node): model.new_int_var(0, int(drawn[shape]), "")
        for shape in asked
        for node in range(len(nodes.cpu))
        if _may(nodes, node, shapes, shape)
    }
    for shape in asked:
        model.add(sum(count for (of, _), count in placed.items() if of == shape) <= int(drawn[shape]))
    for node in range(len(nodes.cpu)):
        _fill(model, nodes, node, shapes, {shape: count for (shape, at), count in placed.items() if at == node})
    gains = shapes.what[:, 2] * shapes.what[:, 3]
    taken = sum(int(gains[shape]) * count for (shape, _), count in placed.items())
    # Floats may be off in their last digits.
    limit = int(most + _EXACT)
    model.add(taken <= limit)
    model.maximize(taken)
    # Nothing is a placement, too: there is a solution from the start.
    for index in range(len(model.proto.variables)):
        model.add_hint(model.get_int_var_from_proto_index(index), 0)
    solver = cp_model.CpSolver()
    # Several ways of searching, in turn on one core: it always takes the same way.
    solver.parameters.num_workers = 8
    solver.parameters.interleave_search = True
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = work
    status = solver.solve(model)
    assert status in {cp_model.OPTIMAL, cp_model.FEASIBLE}, solver.status_name(status)
    return Optimum(round(solver.objective_value), min(round(solver.best_objective_bound), limit))


def _may(nodes: Nodes, node: int, shapes: Shapes, shape: int) -> bool:
    cpu, memory, devices, _ = shapes.what[shape].tolist()
    wanted = int(shapes.models[shape])
    fits = cpu <= nodes.cpu[node] and memory <= nodes.memory[node] and devices <= np.count_nonzero(nodes.gpus[node])
    return bool(fits and (not wanted or wanted & int(nodes.model[node])))


def _fill(model: cp_model.CpModel, nodes: Nodes, node: int, shapes: Shapes, counts: dict[int, _Variable]) -> None:
    """What runs on one node fits: cpu and memory together, GPUs device by device."""
    for column, amount in ((0, nodes.cpu[node]), (1, nodes.memory[node])):
        model.add(sum(int(shapes.what[shape, column]) * count for shape, count in counts.items()) <= int(amount))
    there = [device for device in range(DEVICES) if nodes.gpus[node, device]]
    whole = [model.new_bool_var("") for _ in there]
    loads = [WHOLE * taken for taken in whole]
    wholes = []
    for shape, count in counts.items():
        devices, milli = shapes.what[shape, 2:].tolist()
        if milli == WHOLE:
            wholes.append(devices * count)
            continue
        # A pod has at most one share of a device. Where no device has more shares than there are pods, they can be
        # dealt out so.
        shares = [model.new_int_var(0, WHOLE // milli, "") for _ in there]
        model.add(sum(shares) == devices * count)
        for index, share in enumerate(shares):
            model.add(share <= count)
            loads[index] = loads[index] + milli * share
    model.add(sum(wholes) == sum(whole))
    for load in loads:
        model.add(load <= WHOLE)
    # Devices are alike: only one order of them is looked at.
    for one, other in pairwise(loads):
        model.add(one >= other)
