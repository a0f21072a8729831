"""Plans node groups for pods that wait: how long that takes, and what it costs beside the optimum.

First a large fleet: `--nodes` nodes of ten clusters, nearly full, and `--pending` pods of some hundreds of pod sets
that wait, with forty node groups of different kinds and prices. Timed is `growing.grow` from what is seen to sizes, the
fastest of `--repeat`; all of them must be equal. `share_ratio` is its price by what the pods that lack a place would
cost at their cheapest dominant shares.

Then `--instances` small ones, each with a plan and the optimum by CP-SAT (`tests.bench.nodes_optimum`), as far as that
is proven: `cost_ratio` is what all plans cost together by what all optima cost, `worst_ratio` the largest of one.
The optimum may put pods where it likes; a plan counts on the scheduler's own choices, one pod after the other. All pods
were asked for in one window, so the scheduler tries the largest first; `by_age` are the same figures for one without
windows, which tries pods in the order in which they came.

`karpenter` are the figures of Karpenter's own scheduler (`tests.bench.nodes_karpenter`) on the same pods, nodes and
groups: the large fleet, and the small instances. `karpenter_by_cluster` are those of one Karpenter in each cluster with
its part of the pods: the seconds of all of them, and of the slowest. The one for all has `--karpenter-s` seconds, by
default a minute as in Karpenter's provisioner (0: without Karpenter); the others have ten times as long, to end also on
a busy machine.

`smaller` is all that of a fleet of which one Karpenter reaches the end, `--smaller-pending` pods and `--smaller-nodes`
nodes, made alike; it has ten times as long as well.

    python -m tests.bench.nodes [--pending N] [--nodes N] [--instances N] [--seed S] [--repeat N] [--karpenter-s S]
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from services.autoscaler.decision.nodes.growing import Growth, grow
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import Demand, SchedulerConfig
from services.autoscaler.decision.nodes.seen import Cluster, Node, NodeGroup, Pod, PodSet, Seen, Template
from services.autoscaler.decision.nodes.stock import Stock
from shared.model.pods import PodShape
from shared.runtime.heap import relax
from tests.bench.nodes_karpenter import Solved, divided, solve
from tests.bench.nodes_optimum import optimum
from tests.bench.placement import machine
from tests.bench.support import show_figures, write_result

GIBI = 1024**3
MEBI = 1024**2
# Cores, memory for each core in GiB, price of a core an hour: as clouds sell them.
FAMILIES = {"compute": (2, 0.0425), "general": (4, 0.048), "memory": (8, 0.063)}
CORES = (2, 4, 8, 16, 32)
# What pods ask for, in thousandths of a core and MiB.
CPU = (100, 250, 500, 750, 1000, 1500, 2000, 3000, 4000)
MEMORY_OF_CORE = (512, 1024, 2048, 4096, 6144)
DEFAULT = SchedulerConfig()
BY_AGE = SchedulerConfig(largest_first_ms=0)
# What is to end has so many times as long as Karpenter gives itself.
LONGER = 10.0


def demand(rng: random.Random) -> Demand:
    cpu = rng.choice(CPU)
    memory = max(64, cpu * rng.choice(MEMORY_OF_CORE) // 1000) * MEBI
    return Demand(PodShape(requests=(("cpu", cpu), ("memory", memory), ("pods", 1))))


def groups_of(rng: random.Random, cluster: str, kinds: int, most: int) -> list[NodeGroup]:
    """What a node reserves for itself is about what clouds say."""
    dearer = rng.uniform(0.8, 1.25)
    chosen = rng.sample([(family, cores) for family in FAMILIES for cores in CORES], kinds)
    made = []
    for family, cores in sorted(chosen):
        each, price = FAMILIES[family]
        amounts = {"cpu": cores * 1000 - 100, "memory": cores * each * GIBI * 15 // 16, "pods": 110}
        made.append(
            NodeGroup(
                cluster=cluster,
                name=f"{family}-{cores}",
                template=Template(amounts, labels={"family": family}, zone=rng.choice("ab")),
                size=0,
                most=most,
                price=round(cores * price * dearer, 4),
            )
        )
    return made


def large(pending: int, nodes: int, seed: int) -> Seen:
    rng = random.Random(seed)
    names = [f"cluster-{number}" for number in range(10)]
    groups = [group for name in names for group in groups_of(rng, name, 4, 10_000)]
    shapes = [demand(rng) for _ in range(80)]
    there: dict[str, list[Node]] = {}
    for number in range(nodes):
        group = rng.choice(groups)
        key = f"{group.cluster}/{group.name}"
        there.setdefault(key, []).append(running(rng, group, shapes, f"{group.name}-{number}"))
    grown = [
        NodeGroup(
            group.cluster,
            group.name,
            group.template,
            len(there.get(f"{group.cluster}/{group.name}", ())),
            group.most,
            0,
            group.price,
        )
        for group in groups
    ]
    waiting: list[PodSet] = []
    left = pending
    while left:
        count = min(left, rng.choice((1, 2, 3, 5, 10, 20, 50, 100, 300)))
        number = len(waiting)
        waiting.append(PodSet(f"default/w{number}", rng.choice(shapes), count, requested_at=number))
        left -= count
    return Seen(
        clusters=tuple(Cluster(name) for name in names),
        groups=tuple(grown),
        nodes=tuple(node for found in there.values() for node in found),
        pending=tuple(waiting),
    )


def running(rng: random.Random, group: NodeGroup, shapes: list[Demand], name: str) -> Node:
    """A node that has no room for the last pod that came."""
    free = dict(group.template.allocatable)
    pods: list[Pod] = []
    while True:
        chosen = rng.choice(shapes)
        asked = dict(chosen.shape.requests)
        if any(free[resource] < amount for resource, amount in asked.items()):
            break
        free = {resource: free[resource] - asked[resource] for resource in free}
        pods.append(Pod(f"{group.cluster}/default/{name}-{len(pods)}", chosen))
    return Node(
        cluster=group.cluster,
        name=name,
        allocatable=group.template.allocatable,
        group=group.name,
        labels=group.template.labels,
        zone=group.template.zone,
        price=group.price,
        pods=tuple(pods),
    )


def small(seed: int) -> Seen:
    """Pods that come to some ten nodes."""
    rng = random.Random(f"small {seed}")
    groups = [*groups_of(rng, "one", 2, 12), *groups_of(rng, "other", 2, 12)]
    shapes = [demand(rng) for _ in range(rng.randint(2, 5))]
    pods = [
        PodSet(f"default/w{number}", shape, rng.randint(3, 20), requested_at=number)
        for number, shape in enumerate(shapes)
    ]
    return Seen((Cluster("one"), Cluster("other")), tuple(groups), pending=tuple(pods))


def plan(seen: Seen, repeat: int = 1, config: SchedulerConfig = DEFAULT) -> tuple[Growth, float, float]:
    """The plan, and the seconds that it took: on the clock, and of this process' time on a core."""
    found: list[tuple[Growth, float, float]] = []
    for _ in range(repeat):
        gc.collect()
        start, cpu = time.perf_counter(), time.process_time()
        made = grow(seen, Policy(), config, Stock(), 0)
        found.append((made, time.perf_counter() - start, time.process_time() - cpu))
    assert all(made == found[0][0] for made, _, _ in found), "two plans of one fleet differ"
    return found[0][0], min(clock for _, clock, _ in found), min(cpu for _, _, cpu in found)


def fleet_figures(pending: int, nodes: int, options: argparse.Namespace, karpenter_s: float) -> dict[str, Any]:
    """Of a plan for a large fleet, and of Karpenter beside it, which has so long."""
    seen = large(pending, nodes, options.seed)
    growth, clock, cpu = plan(seen, max(1, options.repeat))
    result = {
        "pending": pending,
        "nodes": nodes,
        "plan_s": round(clock, 3),
        "plan_cpu_s": round(cpu, 3),
        "price": round(growth.added_price, 2),
        "by_age_price": round(plan(seen, config=BY_AGE)[0].added_price, 2),
        "share_ratio": round(growth.added_price / growth.least_price, 4),
        "new_nodes": sum(choice.size - choice.before for choice in growth.choices),
        "unplaced": sum(item.count for item in growth.unplaced),
        "trials": growth.trials,
    }
    return result | (beside_karpenter(seen, karpenter_s, LONGER * options.karpenter_s) if karpenter_s else {})


def beside_karpenter(seen: Seen, whole_s: float, part_s: float) -> dict[str, Any]:
    """One for all has so many seconds, one in each cluster so many."""
    whole, parts = [solve(seen, whole_s)], [solve(each, part_s) for each in divided(seen)]
    slowest = {"karpenter_by_cluster_slowest_s": round(max(each.solve_s for each in parts), 3)}
    return _of_karpenter(whole, "karpenter_") | _of_karpenter(parts, "karpenter_by_cluster_") | slowest


def _of_karpenter(solved: Sequence[Solved], prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}s": round(sum(each.solve_s for each in solved), 3),
        f"{prefix}cpu_s": round(sum(each.cpu_s for each in solved), 3),
        f"{prefix}ended": all(each.ended for each in solved),
        f"{prefix}price": round(sum(each.price for each in solved), 2),
        f"{prefix}new_nodes": sum(sum(each.nodes.values()) for each in solved),
        f"{prefix}unplaced": sum(each.unplaced for each in solved),
    }


def instance_figures(options: argparse.Namespace) -> dict[str, Any]:
    """Of small instances, by their optima."""
    plans, by_age, theirs, optima, worst, unproven = 0.0, 0.0, 0.0, 0.0, 1.0, 0
    for number in range(options.instances):
        seen = small(options.seed + number)
        made, _, _ = plan(seen)
        assert not made.unplaced, made.unplaced
        best = optimum(seen, made.added_price)
        if best is None or not best.proven:
            unproven += 1
            continue
        plans, optima = plans + made.added_price, optima + best.found
        by_age += plan(seen, config=BY_AGE)[0].added_price
        theirs += solve(seen, options.karpenter_s).price if options.karpenter_s else 0.0
        worst = max(worst, made.added_price / best.found)
    return {
        "cost_ratio": round(plans / optima, 4) if optima else None,
        "worst_ratio": round(worst, 4),
        "by_age_ratio": round(by_age / optima, 4) if optima else None,
        "karpenter_ratio": round(theirs / optima, 4) if theirs else None,
        "solved": options.instances - unproven,
        "instances": options.instances,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pending", type=int, default=30_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--smaller-pending", type=int, default=3_000, help="0: without a smaller fleet")
    parser.add_argument("--smaller-nodes", type=int, default=100)
    parser.add_argument("--instances", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--karpenter-s", type=float, default=60.0)
    options = parser.parse_args()
    relax()
    smaller, console = options.smaller_pending, Console()
    limit_s = options.karpenter_s
    result = fleet_figures(options.pending, options.nodes, options, limit_s) | instance_figures(options)
    show_figures("node groups for pods that wait", result, console)
    if smaller:
        result["smaller"] = fleet_figures(smaller, options.smaller_nodes, options, LONGER * limit_s)
        show_figures("a smaller fleet", result["smaller"], console)
    write_result(result | {"seed": options.seed, "karpenter_limit_s": limit_s, "machine": machine()})


if __name__ == "__main__":
    main()
