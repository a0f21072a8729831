"""Places the pods of an openb trace, in memory, each where it costs least after all before it.

Timed is `SchedulerState.decide_requests`, from parsed requests to the decisions, applied: admission, filters and costs
over every node, reservation and record. It is what the leader calls (`services.scheduler.requests.decide_records`) with
the requests that wait, as many as one slice takes: here `--at-once`, 16 of a backlog, which is the most that the leader
hands over. With 1 it is the rate of requests that come one by one. Whatever is handed over, the choices are the same.

Reading the trace, parsing requests and the journal are not timed. The same trace is placed several times, each on a
fresh state, and the fastest counts; all of them must choose alike. Afterwards, untimed, every choice is compared with a
brute-force argmin over all nodes (`tests.reference`): `regret` is the largest difference of cost, and must be 0.

    python -m tests.bench.placement [--nodes FILE] [--pods FILE] [--seed S] [--limit N] [--repeat N] [--no-verify]
                                    [--at-once N] [--beside kube-scheduler [--peer-pods N]]

Without a seed pods arrive in the order of the file; with one they are shuffled by it. With `--beside` kube-scheduler
binds the first `--peer-pods` of them on the same nodes (`tests.bench.kube_scheduler`); it gives whole GPUs only.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import platform
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.scoring.kernel import MOST
from services.scheduler.decision.seen.observed import NODES
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import Decision, RequestRef, WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.requests import WorkloadRequested
from shared.model.identities import ObjectKey
from shared.model.pods import GPU_MILLI_ANNOTATION, PodShape, PodSpec
from shared.runtime.heap import relax
from tests.bench import kube_scheduler
from tests.bench.support import show_figures, write_result
from tests.reference import INFINITE, Reference

OPENB = Path(__file__).resolve().parents[3] / "shared" / "data" / "openb"
NOW = 1_700_000_000_000
CLUSTER = "openb"
MODEL_LABEL = "gpu-model"
GPU = "nvidia.com/gpu"
MEBI = 1024**2

Json = dict[str, Any]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def node_document(row: dict[str, str]) -> Json:
    amounts = {"cpu": f"{row['cpu_milli']}m", "memory": f"{row['memory_mib']}Mi", "pods": "1024"}
    if int(row["gpu"]):
        amounts[GPU] = row["gpu"]
    return {
        "metadata": {"name": row["sn"], "labels": {MODEL_LABEL: row["model"]} if row["model"] else {}},
        "spec": {},
        "status": {"allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pod_template(row: dict[str, str]) -> Json:
    requests = {"cpu": f"{row['cpu_milli']}m", "memory": f"{row['memory_mib']}Mi"}
    metadata: Json = {}
    if int(row["num_gpu"]):
        requests[GPU] = row["num_gpu"]
        if int(row["gpu_milli"]) < 1000:
            metadata["annotations"] = {GPU_MILLI_ANNOTATION: row["gpu_milli"]}
    spec: Json = {"containers": [{"name": "main", "image": "openb", "resources": {"requests": requests}}]}
    if row.get("gpu_spec"):
        wanted = {"key": MODEL_LABEL, "operator": "In", "values": row["gpu_spec"].split("|")}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {"metadata": metadata, "spec": spec}


def request_of(row: dict[str, str]) -> WorkloadRequested:
    workload = {
        "name": row["name"],
        "podSets": [{"name": "main", "replicas": 1, "template": pod_template(row)}],
        "placement": {"binding": "node"},
    }
    return WorkloadRequested.model_validate({"operation": "create", "workload": workload})


def new_state(nodes: list[dict[str, str]], config: SchedulerConfig | None = None) -> SchedulerState:
    state = SchedulerState(config or SchedulerConfig())
    for row in nodes:
        state.observe_object(ObjectKey(CLUSTER, NODES, "", row["sn"]), orjson.dumps(node_document(row)))
    heartbeat = ClusterObserved(cluster=CLUSTER, epoch=1, observed_at=NOW, interval_ms=3_600_000, ready=True)
    state.observe_cluster(heartbeat, NOW)
    return state


def place_all(
    state: SchedulerState, requests: list[WorkloadRequested], at_once: int = MOST
) -> tuple[list[Decision], float, float]:
    """The decisions, and the seconds that they took: on the clock, and of this process' time on a core."""
    refs = [RequestRef(id=f"request-{index}", published_at=NOW) for index in range(len(requests))]
    decisions: list[Decision] = []
    gc.collect()
    start, cpu = time.perf_counter(), time.process_time()
    asked = list(zip(requests, refs, strict=True))
    for first in range(0, len(asked), at_once):
        for answers in state.decide_requests(asked[first : first + at_once], NOW):
            for answer in answers:
                assert not isinstance(answer, Exception), answer
                decisions += answer
    return decisions, time.perf_counter() - start, time.process_time() - cpu


def node_of(decision: Decision) -> str:
    """Where the only replica went; empty where it waits."""
    assert isinstance(decision, WorkloadPlaced), decision
    shares = decision.pod_sets[0].shares
    return shares[0].nodes[0] if shares else ""


def shape_of(row: dict[str, str]) -> PodShape:
    template = pod_template(row)
    milli = int(template["metadata"].get("annotations", {}).get(GPU_MILLI_ANNOTATION, 1000))
    return PodSpec.model_validate(template["spec"]).shape(gpu_milli=milli)


def verify(nodes: list[dict[str, str]], pods: list[dict[str, str]], chosen: list[str]) -> float:
    """The largest difference between a choice and the brute-force minimum; infinite for a choice that does not fit."""
    reference = Reference(SchedulerConfig())
    for row in nodes:
        reference.add(CLUSTER, row["sn"], node_document(row))
    reference.clusters_taking.add(CLUSTER)
    regret = 0.0
    for row, node in zip(pods, chosen, strict=True):
        shape = shape_of(row)
        costs = reference.costs(shape, Counter(), 1)
        least = min(costs.values())
        if node:
            regret = max(regret, costs[CLUSTER, node] - least)
            reference.take(CLUSTER, node, shape)
        elif least != INFINITE:
            return INFINITE
    return regret


def allocation(nodes: list[dict[str, str]], pods: list[dict[str, str]], chosen: list[str]) -> dict[str, float]:
    """The part of the fleet's GPUs, cpu and memory that the placed pods have."""
    placed = [row for row, node in zip(pods, chosen, strict=True) if node]
    totals = {
        "gpu_allocation": sum(1000 * int(row["gpu"]) for row in nodes),
        "cpu_allocation": sum(int(row["cpu_milli"]) for row in nodes),
        "memory_allocation": sum(int(row["memory_mib"]) for row in nodes),
    }
    taken = {
        "gpu_allocation": sum(int(row["num_gpu"]) * int(row["gpu_milli"]) for row in placed),
        "cpu_allocation": sum(int(row["cpu_milli"]) for row in placed),
        "memory_allocation": sum(int(row["memory_mib"]) for row in placed),
    }
    return {name: round(taken[name] / total, 4) if total else 0.0 for name, total in totals.items()}


def machine() -> str:
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=Path, default=OPENB / "openb_node_list_all_node.csv")
    parser.add_argument("--pods", type=Path, default=OPENB / "openb_pod_list_default.csv")
    parser.add_argument("--seed", type=int, help="shuffles the pods; default: the order of the file")
    parser.add_argument("--limit", type=int, help="the first N pods only")
    parser.add_argument("--repeat", type=int, default=3, help="times the trace is placed; the fastest counts")
    parser.add_argument("--at-once", type=int, default=MOST, help="requests that are handed over together")
    parser.add_argument("--no-verify", action="store_true", help="leaves out the comparison with brute force")
    kube_scheduler.add_options(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    kube_scheduler.require(options)
    for path in (options.nodes, options.pods):
        if not path.is_file():
            sys.exit(f"{path} is not there; give the traces with --nodes and --pods")
    nodes, pods = read_rows(options.nodes), read_rows(options.pods)
    if options.seed is not None:
        random.Random(options.seed).shuffle(pods)
    pods = pods[: options.limit]
    requests = [request_of(row) for row in pods]
    # As every service does.
    relax()
    runs = [place_all(new_state(nodes), requests, max(1, options.at_once)) for _ in range(max(1, options.repeat))]
    chosen = [node_of(decision) for decision in runs[0][0]]
    for decisions, _, _ in runs[1:]:
        assert [node_of(decision) for decision in decisions] == chosen, "two runs on one trace chose differently"
    result: Json = {
        "decisions_per_s": round(len(pods) / min(seconds for _, seconds, _ in runs), 1),
        "decisions_per_cpu_s": round(len(pods) / min(cpu for _, _, cpu in runs), 1),
        **allocation(nodes, pods, chosen),
    }
    if not options.no_verify:
        result["regret"] = verify(nodes, pods, chosen)
    result |= {
        "at_once": options.at_once,
        "nodes": len(nodes),
        "pods": len(pods),
        "placed": sum(map(bool, chosen)),
        "seed": options.seed,
        "machine": machine(),
    }
    if options.beside:
        templates = [pod_template(row) for row in pods[: options.peer_pods]]
        result |= kube_scheduler.beside([node_document(row) for row in nodes], templates, result["decisions_per_s"])
    show_figures(f"{options.pods.name} on {options.nodes.name}", result, Console())
    write_result(result)


if __name__ == "__main__":
    main()
