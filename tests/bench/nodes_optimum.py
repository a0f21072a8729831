"""The cheapest nodes for pods that have none, proven by CP-SAT: what plans are measured against.

Nothing is relaxed: pods are whole, each on one node. Found for somebody who may put every pod where he likes, which the
scheduler's costs need not do.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from ortools.sat.python import cp_model

from services.autoscaler.decision.nodes.seen import NodeGroup, Seen

# Work that the solver may do, in its own unit, about seconds: where it ends does not depend on the machine's load.
_WORK = 4.0
# Prices in whole numbers.
_UNIT = 10_000


class Optimum(NamedTuple):
    """Prices an hour: the best that was found, and what is proven to be out of reach below."""

    found: float
    bound: float

    @property
    def proven(self) -> bool:
        return self.found - self.bound < 1 / _UNIT


def optimum(seen: Seen, at_most: float, work: float = _WORK) -> Optimum | None:
    """Of new nodes for what waits, on groups that take any pod, with nothing there yet; `at_most` is what a plan costs.
    None where nothing was found.
    """
    model = cp_model.CpModel()
    counts: list[list[cp_model.IntVar]] = [[] for _ in seen.pending]
    cost = []
    for group in seen.groups:
        # More of these nodes would cost more than the plan.
        most = min(group.most - group.size, int(at_most / group.price + 1e-6))
        nodes = [_node(model, seen, group, counts) for _ in range(most)]
        cost += [round(group.price * _UNIT) * used for used, _ in nodes]
        for (one, its), (other, others) in pairwise(nodes):
            # Nodes of a group are alike: only one order of them is looked at.
            model.add(one >= other)
            model.add(its >= others)
    for pod_set, placed in zip(seen.pending, counts, strict=True):
        model.add(sum(placed) == pod_set.count)
    model.minimize(sum(cost))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 8
    solver.parameters.interleave_search = True
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = work
    if solver.solve(model) not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
        return None
    return Optimum(solver.objective_value / _UNIT, solver.best_objective_bound / _UNIT)


def _node(
    model: cp_model.CpModel, seen: Seen, group: NodeGroup, counts: list[list[cp_model.IntVar]]
) -> tuple[cp_model.IntVar, cp_model.LinearExprT]:
    """Whether it is there, and the cpu that its pods take."""
    used = model.new_bool_var("")
    asked = [dict(pod_set.demand.shape.requests) for pod_set in seen.pending]
    own = [model.new_int_var(0, pod_set.count, "") for pod_set in seen.pending]
    for name, amount in group.template.allocatable.items():
        taken = sum(each.get(name, 0) * count for each, count in zip(asked, own, strict=True))
        model.add(taken <= amount * used)
    for placed, count in zip(counts, own, strict=True):
        placed.append(count)
    return used, sum(each.get("cpu", 0) * count for each, count in zip(asked, own, strict=True))
