"""How full the fleet's GPUs get: the inflation protocol of "Beware of Fragmentation" (Weng et al., USENIX ATC '23).

GPU nodes only; pods of the list, some left out or drawn once more, until what they ask of GPUs is `--demand` times
what there is; in seeded random order, nothing departs. Measured is the part of the GPUs that is taken at the end, as
the mean over seeds. Policies: `scheduler` is `SchedulerState` with its default weights, `fragmentation` with those of
`GPU_POLICY`; they know neither list nor future. `random`, `best-fit` and `fgd` are those of the paper
(`tests.bench.quality_policies`); FGD is told how often each shape occurs in the list.

    python -m tests.bench.quality [--nodes FILE] [--pods FILE] [--demand 1.3] [--seeds 10] [--policy NAME]...
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import mean, pstdev

from rich.console import Console
from rich.table import Table

from services.scheduler.decision.config import GPU_POLICY, SchedulerConfig
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import RequestRef, WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from shared.runtime.heap import relax
from tests.bench.placement import NOW, OPENB, machine, new_state, node_of, read_rows, request_of
from tests.bench.quality_policies import POLICIES, Ints, Nodes, Shapes, draw, place, read_nodes, read_shapes
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
    return parser.parse_args()


class Trace:
    """A list of pods on the nodes of a fleet. `shapes` of equal pods are one row; `requests` has one for each row."""

    def __init__(self, node_rows: list[dict[str, str]], pod_rows: list[dict[str, str]]) -> None:
        models: dict[str, int] = {}
        self._node_rows = [row for row in node_rows if int(row["gpu"])]
        self.nodes: Nodes = read_nodes(self._node_rows, models)
        self.shapes: Shapes = read_shapes(pod_rows, models)
        self.capacity = int(self.nodes.gpus.sum())
        first = {shape: index for index, shape in reversed(list(enumerate(self.shapes.of.tolist())))}
        self.requests = [request_of(pod_rows[first[shape]]) for shape in range(len(self.shapes.what))]

    def allocation(self, policy: str, demand: float, seed: int) -> float:
        """The percentage of the GPUs that are taken at the end."""
        order = draw(self.shapes, int(demand * self.capacity), seed)
        if policy in OURS:
            taken = schedule(new_state(self._node_rows, OURS[policy]), self.requests, self.shapes, order)
        else:
            taken = place(policy, self.nodes, self.shapes, order, seed)
        return 100 * taken / self.capacity


def main() -> None:
    options = arguments()
    for path in (options.nodes, options.pods):
        if not path.is_file():
            sys.exit(f"{path} is not there; give the traces with --nodes and --pods")
    relax()
    trace = Trace(read_rows(options.nodes), read_rows(options.pods))
    table = Table(title=f"{options.pods.name}: {options.demand:.0%} of the GPUs asked for, {options.seeds} seeds")
    for column in ("policy", "GPUs taken (%)", "deviation", "least", "most", "seconds"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    means: dict[str, float] = {}
    for policy in options.policy or [*OURS, *POLICIES]:
        began = time.perf_counter()
        found = [trace.allocation(policy, options.demand, seed) for seed in range(options.seeds)]
        means[policy] = round(mean(found), 2)
        figures = (f"{value:.2f}" for value in (mean(found), pstdev(found), min(found), max(found)))
        table.add_row(policy, *figures, f"{time.perf_counter() - began:.1f}")
    Console().print(table)
    write_result(
        {
            "gpu_allocation_mean": next(iter(means.values())),
            "by_policy": means,
            "demand": options.demand,
            "seeds": options.seeds,
            "pods": options.pods.name,
            "machine": machine(),
        }
    )


if __name__ == "__main__":
    main()
