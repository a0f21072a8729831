"""A very large fleet, in memory, on one core: how many replicas are placed a second, and in how much memory.

`--clusters` of `--nodes` nodes each, in three zones and of four sizes; prices and regions differ between clusters.
First `--workloads` are placed, their replicas from 1 to 20 and of 16 shapes, bound by their clusters. Then as many
requests once more, which are timed: `SchedulerState.decide_request`, in which every node is scored for each replica.
A decision is the whole outcome of one request.

    python -m tests.bench.fleet [--clusters C] [--nodes N] [--workloads W] [--seed S]
"""

from __future__ import annotations

import argparse
import os
import random
import time
from typing import Any

import orjson
from rich.console import Console

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import NODES
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import RequestRef, WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.requests import WorkloadRequested
from shared.model.identities import PRICE_LABEL, REGION_LABEL, ZONE_LABEL, ObjectKey
from shared.runtime.heap import relax
from tests.bench.placement import machine
from tests.bench.support import apply_request, quantile, resident_mb, show_figures, write_result
from tests.scheduling import NOW, node_json

SIZES = (("16", "64Gi"), ("32", "128Gi"), ("64", "256Gi"), ("96", "768Gi"))
MOST_REPLICAS = 20


def request(random_: random.Random, number: int) -> WorkloadRequested:
    shape = random_.randrange(16)
    cpu, memory = f"{250 + 250 * (shape % 4)}m", f"{512 * (1 + shape // 4)}Mi"
    replicas = random_.randint(1, MOST_REPLICAS)
    return apply_request(f"team-{number % 50}", f"w{number}", cpu=cpu, memory=memory, replicas=replicas)


class Fleet:
    def __init__(self, clusters: int, nodes: int) -> None:
        self.state = SchedulerState(SchedulerConfig())
        self._made = 0
        for number in range(clusters):
            name = f"c{number:03d}"
            self._observe_nodes(name, number, nodes)
            beat = ClusterObserved(cluster=name, epoch=1, observed_at=NOW, interval_ms=3_600_000, ready=True)
            self.state.observe_cluster(beat, NOW)

    def _observe_nodes(self, cluster: str, number: int, nodes: int) -> None:
        for node in range(nodes):
            cpu, memory = SIZES[(node + number) % len(SIZES)]
            labels = {
                ZONE_LABEL: f"{cluster}-{node % 3}",
                REGION_LABEL: f"region-{number % 5}",
                PRICE_LABEL: str((1 + number % 7) * int(cpu) / 100),
            }
            raw = orjson.dumps(node_json(cpu=cpu, memory=memory, labels=labels))
            self.state.observe_object(ObjectKey(cluster, NODES, "", f"node-{node:05d}"), raw)

    def decide(self, asked: WorkloadRequested) -> tuple[float, int]:
        """The seconds that the decision took, and how many replicas the workload has now."""
        ref = RequestRef(id=f"request-{self._made}", published_at=NOW)
        self._made += 1
        began = time.perf_counter()
        (decision,) = self.state.decide_request(asked, ref, NOW)
        took = time.perf_counter() - began
        assert isinstance(decision, WorkloadPlaced), decision
        placed, wanted = decision.pod_sets[0].placed, decision.pod_sets[0].desired
        assert placed == wanted, decision.pod_sets[0].message
        return took, placed


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    random_ = random.Random(options.seed)
    began = time.perf_counter()
    fleet = Fleet(options.clusters, options.nodes)
    observed_s = time.perf_counter() - began
    empty_mib = mebibytes()
    console.print(f"{options.clusters * options.nodes} nodes observed in {observed_s:.0f} s, {empty_mib} MiB")
    for number in range(options.workloads):
        fleet.decide(request(random_, number))
    console.print(f"{options.workloads} workloads are there, {mebibytes()} MiB")
    took, placed = [], 0
    for number in range(options.workloads, 2 * options.workloads):
        seconds, replicas = fleet.decide(request(random_, number))
        took.append(seconds)
        placed += replicas
    return {
        "decisions_per_s": round(len(took) / sum(took), 1),
        "placements_per_s": round(placed / sum(took), 1),
        "p50_ms": round(1000 * quantile(took, 0.5), 3),
        "p99_ms": round(1000 * quantile(took, 0.99), 3),
        "rss_mib": mebibytes(),
        "rss_mib_without_workloads": empty_mib,
        "observed_s": round(observed_s, 1),
        "clusters": options.clusters,
        "nodes": options.nodes,
        "workloads": 2 * options.workloads,
        "machine": machine(),
    }


def mebibytes() -> int:
    return round(resident_mb(os.getpid()) * 1e6 / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=5_000, help="of each cluster")
    parser.add_argument("--workloads", type=int, default=5_000, help="there before, and once more while it is timed")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    relax()
    console = Console(stderr=True)
    result = measure(options, console)
    show_figures(f"{options.clusters} clusters of {options.nodes} nodes", result, console)
    write_result(result)


if __name__ == "__main__":
    main()
