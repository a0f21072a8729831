"""How full the fleet's GPUs get: the inflation protocol of "Beware of Fragmentation" (Weng et al., USENIX ATC '23).

GPU nodes only; pods of the list, some left out or drawn once more, until what they ask of GPUs is `--demand` times
what there is; in seeded random order, nothing departs. Measured is the part of the GPUs that is taken at the end, as
the mean over seeds, beside what no policy can exceed for the pods of that seed (`tests.bench.quality_bounds`).
Policies: `scheduler` is `SchedulerState` with its default weights, `fragmentation` with those of `GPU_POLICY`; they
know neither list nor future. `random`, `best-fit` and `fgd` are those of the paper (`tests.bench.quality_policies`);
FGD is told how often each shape occurs in the list. What a policy is ahead of FGD is the mean of differences by seed.

Then small fleets: `--small-nodes` of the nodes, drawn anew for each of `--small` seeds, under the same protocol, beside
the optimum that CP-SAT proves (`tests.bench.quality_optimum`).

    python -m tests.bench.quality [--nodes FILE] [--pods FILE] [--demand 1.3] [--seeds 10] [--policy NAME]...
        [--small 10] [--small-nodes 8] [--small-pods 50]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from services.scheduler.decision.config import GPU_POLICY, SchedulerConfig
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import RequestRef, WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from shared.runtime.heap import relax
from tests.bench.placement import NOW, OPENB, Json, machine, new_state, node_of, read_rows, request_of
from tests.bench.quality_bounds import most_taken
from tests.bench.quality_optimum import optimum
from tests.bench.quality_policies import (
    POLICIES,
    WHOLE,
    Floats,
    Ints,
    Nodes,
    Shapes,
    draw,
    place,
    read_nodes,
    read_shapes,
)
from tests.bench.support import write_result

OURS = {"scheduler": SchedulerConfig(), "fragmentation": SchedulerConfig(weights=GPU_POLICY)}


def schedule(state: SchedulerState, requests: list[WorkloadRequested], shapes: Shapes, order: Ints) -> int:
    """The thousandths of GPUs that the scheduler gives away; every pod is a workload of its own."""
    asks, taken = (shapes.what[:, 2] * shapes.what[:, 3]).tolist(), 0
    for number, shape in enumerate(order.tolist()):
        body = requests[shape].root
        assert body.operation != "delete"
        request = WorkloadRequested(
            body.model_copy(update={"workload": body.workload.model_copy(update={"name": f"p{number}"})})
        )
        (decision,) = state.decide_request(request, RequestRef(id=f"request-{number}", published_at=NOW), NOW)
        assert isinstance(decision, WorkloadPlaced), decision
        taken += asks[shape] if node_of(decision) else 0
    return taken


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=Path, default=OPENB / "openb_node_list_gpu_node.csv")
    parser.add_argument("--pods", type=Path, default=OPENB / "openb_pod_list_default.csv")
    parser.add_argument("--demand", type=float, default=1.3, help="what is asked of GPUs, as a part of what there is")
    parser.add_argument("--seeds", type=int, default=10, help="how many orders of arrival")
    choices = (*OURS, *POLICIES)
    parser.add_argument("--policy", action="append", choices=choices, help="may be given again; default: all")
    parser.add_argument("--small", type=int, default=10, help="how many small fleets; 0 leaves them out")
    parser.add_argument("--small-nodes", type=int, default=8, help="how many nodes each of them has")
    parser.add_argument("--small-pods", type=int, default=50, help="about how many pods they are asked to run")
    return parser.parse_args()


class Trace:
    """A list of pods on the nodes of a fleet. `shapes` of equal pods are one row; `requests` has one for each row."""

    def __init__(self, node_rows: list[dict[str, str]], pod_rows: list[dict[str, str]]) -> None:
        models: dict[str, int] = {}
        self._node_rows = [row for row in node_rows if int(row["gpu"])]
        self._pod_rows = pod_rows
        self.nodes: Nodes = read_nodes(self._node_rows, models)
        self.shapes: Shapes = read_shapes(pod_rows, models)
        self.capacity = int(self.nodes.gpus.sum())
        first = {shape: index for index, shape in reversed(list(enumerate(self.shapes.of.tolist())))}
        self.requests = [request_of(pod_rows[first[shape]]) for shape in range(len(self.shapes.what))]

    def small(self, nodes: int, pods: int, demand: float, seed: int) -> Trace:
        """The same list for some of the nodes, of which `pods` pods are about enough. One after the other is drawn, and
        passed over if it had too many GPUs for that."""
        asks = (self.shapes.what[:, 2] * self.shapes.what[:, 3])[self.shapes.of]
        room = pods * float(asks.mean()) / demand / WHOLE
        chosen: list[int] = []
        for index in np.random.default_rng(seed).permutation(len(self._node_rows)).tolist():
            gpus = int(self._node_rows[index]["gpu"])
            if len(chosen) < nodes and gpus <= room - (nodes - len(chosen) - 1):
                chosen.append(index)
                room -= gpus
        return Trace([self._node_rows[index] for index in sorted(chosen)], self._pod_rows)

    def draw(self, demand: float, seed: int) -> Ints:
        return draw(self.shapes, int(demand * self.capacity), seed)

    def part(self, milli: float) -> float:
        """Thousandths of GPUs as a percentage of all."""
        return 100 * milli / self.capacity

    def allocation(self, policy: str, order: Ints, seed: int) -> float:
        """The percentage of the GPUs that are taken at the end."""
        if policy in OURS:
            return self.part(schedule(new_state(self._node_rows, OURS[policy]), self.requests, self.shapes, order))
        return self.part(place(policy, self.nodes, self.shapes, order, seed))

    def bound(self, order: Ints) -> float:
        return self.part(most_taken(self.nodes, self.shapes, order))


def told(values: Floats) -> str:
    """The mean and its standard error."""
    return f"{values.mean():.2f} ± {standard_error(values):.2f}"


def standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def measure(trace: Trace, policies: list[str], demand: float, seeds: int, title: str) -> Json:
    """Every policy on the same pods in the same order, and the bound for them."""
    orders = [trace.draw(demand, seed) for seed in range(seeds)]
    began = time.perf_counter()
    bounds = np.array([trace.bound(order) for order in orders])
    spent = {"": time.perf_counter() - began}
    found: dict[str, Floats] = {}
    for policy in policies:
        began = time.perf_counter()
        found[policy] = np.array([trace.allocation(policy, order, seed) for seed, order in enumerate(orders)])
        spent[policy] = time.perf_counter() - began
    table = new_table(title, "GPUs taken (%)", "least", "most", "ahead of fgd", "room up to the bound", "seconds")
    for policy, values in found.items():
        ahead = told(values - found["fgd"]) if "fgd" in found and policy != "fgd" else ""
        figures = told(values), f"{values.min():.2f}", f"{values.max():.2f}", ahead, told(bounds - values)
        table.add_row(policy, *figures, f"{spent[policy]:.1f}")
    table.add_row("bound", told(bounds), f"{bounds.min():.2f}", f"{bounds.max():.2f}", "", "", f"{spent['']:.1f}")
    Console().print(table)
    means = {policy: round(float(values.mean()), 2) for policy, values in found.items()}
    return {
        "gpu_allocation_mean": next(iter(means.values())),
        "by_policy": means,
        "standard_error": {policy: round(standard_error(values), 3) for policy, values in found.items()},
        "by_seed": {policy: values.round(2).tolist() for policy, values in found.items()},
        "bound_mean": round(float(bounds.mean()), 2),
        "bound_by_seed": bounds.round(2).tolist(),
    }


def measure_small(trace: Trace, policies: list[str], options: argparse.Namespace) -> Json:
    """Every policy on small fleets, beside the optimum."""
    seeds = range(options.small)
    fleets = [trace.small(options.small_nodes, options.small_pods, options.demand, seed) for seed in seeds]
    orders = [fleet.draw(options.demand, seed) for seed, fleet in enumerate(fleets)]
    runs = list(zip(seeds, fleets, orders, strict=True))
    limits = [most_taken(fleet.nodes, fleet.shapes, order) for _, fleet, order in runs]
    optima = [
        optimum(fleet.nodes, fleet.shapes, order, limit) for (_, fleet, order), limit in zip(runs, limits, strict=True)
    ]
    found = {
        policy: np.array([fleet.allocation(policy, order, seed) for seed, fleet, order in runs]) for policy in policies
    }
    best = np.array([fleet.part(item.found) for fleet, item in zip(fleets, optima, strict=True)])
    # Where nothing is proven a policy may have found more than the solver.
    best = np.max([best, *found.values()], axis=0)
    bounds = np.array([fleet.part(limit) for fleet, limit in zip(fleets, limits, strict=True)])
    proven = sum(item.proven for item in optima)
    pods = f"{min(map(len, orders))} to {max(map(len, orders))}"
    title = f"{len(fleets)} small fleets: {options.small_nodes} nodes, {pods} pods"
    table = new_table(title, "GPUs taken (%)", "below the optimum", "most below")
    for policy, values in found.items():
        table.add_row(policy, told(values), told(best - values), f"{(best - values).max():.2f}")
    table.add_row(f"optimum (proven: {proven})", told(best), "", "")
    table.add_row("bound", told(bounds), told(best - bounds), "")
    Console().print(table)
    return {
        "fleets": len(fleets),
        "nodes": options.small_nodes,
        "by_policy": {policy: round(float(values.mean()), 2) for policy, values in found.items()},
        "optimum_mean": round(float(best.mean()), 2),
        "optima_proven": proven,
        "bound_mean": round(float(bounds.mean()), 2),
    }


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column("policy")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def main() -> None:
    options = arguments()
    for path in (options.nodes, options.pods):
        if not path.is_file():
            sys.exit(f"{path} is not there; give the traces with --nodes and --pods")
    relax()
    trace = Trace(read_rows(options.nodes), read_rows(options.pods))
    policies: list[str] = options.policy or [*OURS, *POLICIES]
    title = f"{options.pods.name}: {options.demand:.0%} of the GPUs asked for, {options.seeds} seeds"
    result = measure(trace, policies, options.demand, options.seeds, title)
    if options.small:
        result["small"] = measure_small(trace, policies, options)
    write_result(
        {
            **result,
            "demand": options.demand,
            "seeds": options.seeds,
            "pods": options.pods.name,
            "machine": machine(),
        }
    )


if __name__ == "__main__":
    main()
