"""Karpenter's scheduler on the same pods, nodes and instance types: built on first use, into the cache.

`karpenter/main.go` is set up as Karpenter's own scheduling benchmark is; `karpenter/go.mod` pins the version. Each
node group is an instance type of one NodePool, so pods may go to any of them, as here: one Karpenter for the whole
fleet, which nobody runs, but which is as free as we are. `divided` is what is run, one in every cluster. Karpenter
knows no most of an instance type: `Solved.nodes` says how many there are of each.

It tries each pod on every node that is about to be made, those with the fewest pods first, and there for every instance
type: what Solve takes grows with pods times new nodes.

    python -m tests.bench.nodes_karpenter          # builds it, about 5 minutes on 2 idle cores the first time
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.autoscaler.decision.nodes.seen import Cluster, Node, PodSet, Seen
from tests.testbed.build import BuildError, find_go, made_once, run_go
from tests.testbed.installation import cache_root

_MODULE: Final = Path(__file__).parent / "karpenter"
_FILES: Final = ("main.go", "go.mod", "go.sum")
_NICE: Final = 10
# Beside what Solve may take: pods are made and their answer is read.
_AROUND_S: Final = 60.0

Json = dict[str, Any]


class Solved(NamedTuple):
    """`solve_s` is Solve alone, which is what Karpenter's benchmark times; `cpu_s` the whole process' time on cores;
    `ended` is False if it was given up then. `price` is an hour's, of the cheapest instance type that each new node may
    be; `nodes` counts these by group.
    """

    cpu_s: float
    solve_s: float
    ended: bool
    unplaced: int
    price: float
    nodes: Mapping[str, int]


def program() -> Path:
    """Builds the program if it is missing; safe to call from several processes. Raises BuildError."""
    digest = hashlib.sha256(b"".join((_MODULE / name).read_bytes() for name in _FILES)).hexdigest()[:16]

    def make(built: Path) -> None:
        sys.stderr.write("building Karpenter's scheduler from its Go module: about 5 minutes on 2 idle cores\n")
        flags = ("-trimpath", "-buildvcs=false", "-mod=readonly")
        arguments = ("build", *flags, "-o", str(built), ".")
        run_go(find_go(_MODULE), *arguments, module=_MODULE, nice=_NICE, timeout_s=3600)

    return made_once(cache_root() / f"karpenter-{digest}", make, "lock-karpenter")


def question(seen: Seen, deadline_s: float) -> Json:
    return {
        "deadline_s": deadline_s,
        "instance_types": [
            {
                "name": f"{group.cluster}.{group.name}",
                "price": group.price,
                "zone": group.template.zone,
                "allocatable": dict(group.template.allocatable),
            }
            for group in seen.groups
        ],
        "nodes": [
            {"name": f"{node.cluster}.{node.name}", "zone": node.zone, "free": _free(node)} for node in seen.nodes
        ],
        "pods": [
            {"name": item.key.replace("/", "."), "count": item.count, "requests": _amounts(item.demand.shape.requests)}
            for item in seen.pending
        ],
    }


def solve(seen: Seen, deadline_s: float) -> Solved:
    """What Karpenter makes of pods without rules and groups that take any. Raises BuildError, and RuntimeError."""
    # Built before its time is taken.
    command = [program()]
    before = _children_s()
    done = subprocess.run(
        command,
        input=json.dumps(question(seen, deadline_s)), capture_output=True, text=True, env=dict(os.environ),
        timeout=deadline_s + _AROUND_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"Karpenter's scheduler failed:\n{done.stderr[-4000:]}")
    return Solved(_children_s() - before, **json.loads(done.stdout))


def _children_s() -> float:
    """Of those that have ended: a caller has no other child meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def divided(seen: Seen) -> list[Seen]:
    """As Karpenter is run: one in every cluster, which knows its own nodes and groups alone. Each has as many of the
    pods as the others, of every pod set in turn.
    """
    count, turn = len(seen.clusters), 0
    shares: list[list[PodSet]] = [[] for _ in seen.clusters]
    for item in seen.pending:
        each, rest = divmod(item.count, count)
        for number, share in enumerate(shares):
            mine = each + ((number - turn) % count < rest)
            if mine:
                share.append(replace(item, count=mine))
        turn = (turn + rest) % count
    return [_of_cluster(seen, *each) for each in zip(seen.clusters, shares, strict=True)]


def _of_cluster(seen: Seen, cluster: Cluster, pending: Sequence[PodSet]) -> Seen:
    return Seen(
        clusters=(cluster,),
        groups=tuple(group for group in seen.groups if group.cluster == cluster.name),
        nodes=tuple(node for node in seen.nodes if node.cluster == cluster.name),
        pending=tuple(pending),
    )


def _free(node: Node) -> dict[str, int]:
    left = dict(node.allocatable)
    for pod in node.pods:
        for name, amount in pod.demand.shape.requests:
            left[name] -= amount
    return left


def _amounts(requests: Iterable[tuple[str, int]]) -> dict[str, int]:
    """`pods` is no resource that a container asks for: Karpenter counts pods by itself."""
    return {name: amount for name, amount in requests if name != "pods"}


if __name__ == "__main__":
    try:
        print(program())
    except BuildError as error:
        sys.exit(str(error))
