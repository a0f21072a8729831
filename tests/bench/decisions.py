"""Decisions a second on large fleets, in memory, on one core.

One cluster of equal nodes, half filled before; then workloads of one replica, in turn of each shape, followed by the
deletion of as many of the oldest ones, so that the fleet stays as full as it is. Timed is
`SchedulerState.decide_requests` for the placements alone, with `--at-once` of them that wait together, as many as the
leader hands over of a backlog (see `tests.bench.placement`); `p50_ms` and `p99_ms` are what each waited for its own
answer, with all those before it and beside it. Every node is scored for each of them
(`services.scheduler.decision.scoring.profiles`).

With `--constraint` the pods of each shape want something of each other: with `anti-affinity` they keep apart from node
to node, with `preferred` they would rather, from zone to zone as well; with `affinity` they stay within one zone; with
`spread` they are spread over zones and over nodes, with a skew of at most one, and with `spread-anyway` as well as it
goes. With `all` every constraint has a fleet of its own, beside a plain one, and they have their turns in one run, so
that what the machine does otherwise slows all of them: `ratios` are their rates beside the plain one.

With `--beside kube-scheduler` that one binds the first `--peer-pods` of the same pods on the same nodes, empty at first
(`tests.bench.kube_scheduler` says what its figures contain).

    python -m tests.bench.decisions [--nodes N] [--shapes S] [--decisions K] [--at-once N]
                                    [--constraint NAME|none|all] [--beside kube-scheduler [--peer-pods N]]
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from typing import Any

import orjson
from rich.console import Console

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.deciding.requests import Answer, Asked
from services.scheduler.decision.scoring.kernel import MOST
from services.scheduler.decision.seen.observed import NODES
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.decisions import RequestRef, WorkloadForgotten, WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.model.identities import WORKLOAD_SUBJECT, ZONE_LABEL, ObjectKey
from shared.runtime.heap import building, relax
from tests.bench import kube_scheduler
from tests.bench.placement import machine
from tests.bench.support import quantile, resident_mb, show_figures, write_result
from tests.scheduling import NOW, node_json

Json = dict[str, Any]
CLUSTER = "large"
HOSTNAME = "kubernetes.io/hostname"
ZONES = 3
FEWEST_GROUPS = 4
CONSTRAINTS = ("anti-affinity", "preferred", "affinity", "spread", "spread-anyway")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def shape(number: int) -> Json:
    """Different requests, none more than an eighth of a node."""
    requests = {"cpu": f"{500 + 25 * (number % 64)}m", "memory": f"{512 + 64 * (number // 4)}Mi"}
    return {"containers": [{"name": "main", "image": "i", "resources": {"requests": requests}}]}


def constrained(template: Json, constraint: str, number: int) -> Json:
    """The template with a label, and with what it asks of pods that have it too."""
    group = {"app": f"app-{number}"}
    selector = {"labelSelector": {"matchLabels": group}}
    spec = dict(template["spec"])
    terms = {key: {"topologyKey": key, **selector} for key in (ZONE_LABEL, HOSTNAME)}
    match constraint:
        case "anti-affinity":
            spec["affinity"] = {"podAntiAffinity": {_REQUIRED: [terms[HOSTNAME]]}}
        case "preferred":
            weighted = [{"weight": 10, "podAffinityTerm": term} for term in terms.values()]
            spec["affinity"] = {"podAntiAffinity": {_PREFERRED: weighted}}
        case "affinity":
            spec["affinity"] = {"podAffinity": {_REQUIRED: [terms[ZONE_LABEL]]}}
        case _:
            action = "DoNotSchedule" if constraint == "spread" else "ScheduleAnyway"
            spec["topologySpreadConstraints"] = [
                {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": action, **selector} for key in terms
            ]
    return {"metadata": {"labels": group}, "spec": spec}


def create(name: str, template: Json) -> WorkloadRequested:
    pod_sets = [{"name": "main", "replicas": 1, "template": template}]
    workload = {"name": name, "podSets": pod_sets, "placement": {"binding": "node"}}
    return WorkloadRequested.model_validate({"operation": "create", "workload": workload})


def delete(name: str) -> WorkloadRequested:
    return WorkloadRequested.model_validate({"operation": "delete", "workload": {"name": name}})


def fleet(nodes: int) -> list[Json]:
    """The manifests of equal nodes in a few zones."""
    manifests = []
    for number in range(nodes):
        name = f"node-{number}"
        labels = {HOSTNAME: name, ZONE_LABEL: f"zone-{number % ZONES}"}
        node = node_json(cpu="32", memory="128Gi", labels=labels)
        manifests.append(node | {"metadata": {**node["metadata"], "name": name}})
    return manifests


def pod_templates(shapes: int, constraint: str) -> list[Json]:
    """One for each group of equal pods."""
    if constraint in ("none", "all"):
        return [{"spec": shape(number)} for number in range(shapes)]
    # One group of pods that keep apart can fill half of the fleet no more than once for each node.
    groups = max(shapes, FEWEST_GROUPS)
    return [constrained({"spec": shape(number % shapes)}, constraint, number) for number in range(groups)]


class Bench:
    def __init__(self, nodes: int, shapes: int, constraint: str = "none") -> None:
        self.state = SchedulerState(SchedulerConfig())
        self._templates = pod_templates(shapes, constraint)
        self._made = 0
        self._generation = 0
        self._living: deque[str] = deque()
        for node in fleet(nodes):
            key = ObjectKey(CLUSTER, NODES, "", node["metadata"]["name"])
            self.state.observe_object(key, orjson.dumps(node))
        beat = ClusterObserved(cluster=CLUSTER, epoch=1, observed_at=NOW, interval_ms=3_600_000, ready=True)
        self.state.observe_cluster(beat, NOW)

    def place(self, count: int = 1) -> list[float]:
        """So many workloads more, which wait together; the seconds until each has its answer."""
        asked = [self._next() for _ in range(count)]
        took: list[float] = []
        decided: list[Answer] = []
        began = time.perf_counter()
        for answers in self.state.decide_requests(asked, NOW):
            took += [time.perf_counter() - began] * len(answers)
            decided += answers
        for answer in decided:
            assert not isinstance(answer, Exception), answer
            (decision,) = answer
            assert isinstance(decision, WorkloadPlaced), decision
            assert decision.pod_sets[0].placed == 1, decision.pod_sets[0].message
            self._note(decision)
        return took

    def _next(self) -> Asked:
        name, template = f"w{self._made}", self._templates[self._made % len(self._templates)]
        ref = RequestRef(id=f"request-{self._made}", published_at=NOW)
        self._made += 1
        self._living.append(name)
        return create(name, template), ref

    def end_oldest(self) -> None:
        """Deletes it, and lets its cluster confirm that it is gone."""
        name = self._living.popleft()
        ref = RequestRef(id=f"end-{name}", published_at=NOW)
        for decision in self.state.decide_request(delete(name), ref, NOW):
            self._note(decision)
        report = CommandReported(
            cluster=CLUSTER,
            subject=f"{WORKLOAD_SUBJECT}default/{name}",
            generation=self._generation,
            epoch=1,
            digest="",
            outcome="withdrawn",
            reported_at=NOW,
        )
        self.state.observe_result(report, report.reported_at)
        assert any(isinstance(decision, WorkloadForgotten) for decision in self.state.decide_pending(NOW))

    def _note(self, decision: Any) -> None:
        self._generation += 1
        self.state.note_generation(decision, self._generation)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--shapes", type=int, default=16, help="different pods, at most 256")
    parser.add_argument("--constraint", choices=("none", *CONSTRAINTS, "all"), default="none")
    parser.add_argument("--decisions", type=int, default=10_000, help="how many are timed")
    parser.add_argument("--at-once", type=int, default=MOST, help="requests that are handed over together")
    kube_scheduler.add_options(parser)
    return parser.parse_args()


def fill(benches: Iterable[Bench], options: argparse.Namespace) -> None:
    """What is there before is no business of the collector's later on, as it is with a leader."""
    with building():
        for bench in benches:
            for _ in range(2 * options.nodes // max(1, options.at_once)):
                bench.place(max(1, options.at_once))


def measure(bench: Bench, options: argparse.Namespace) -> Iterator[list[float]]:
    """What each request of a round waited for its answer, round by round."""
    at_once = max(1, options.at_once)
    for _ in range(-(-options.decisions // at_once)):
        waited = bench.place(at_once)
        yield waited
        for _ in waited:
            bench.end_oldest()


def figures(rounds: list[list[float]]) -> Json:
    took = [seconds for waited in rounds for seconds in waited]
    return {
        "decisions_per_s": round(len(took) / sum(waited[-1] for waited in rounds), 1),
        "p50_ms": round(1000 * quantile(took, 0.5), 3),
        "p99_ms": round(1000 * quantile(took, 0.99), 3),
    }


def side_by_side(options: argparse.Namespace, shapes: int) -> Json:
    """Every constraint beside none, in turn."""
    names = ("none", *CONSTRAINTS)
    benches = [Bench(options.nodes, shapes, name) for name in names]
    fill(benches, options)
    rounds: dict[str, list[list[float]]] = {name: [] for name in names}
    # The collector rests: one of its few pauses would slow whoever has his turn, and none of the others.
    with building():
        for turn in zip(*(measure(bench, options) for bench in benches), strict=True):
            for name, waited in zip(names, turn, strict=True):
                rounds[name].append(waited)
    found = {name: figures(rounds[name]) for name in names}
    plain = found["none"]["decisions_per_s"]
    ratios = {name: round(found[name]["decisions_per_s"] / plain, 3) for name in CONSTRAINTS}
    slowest = min(ratios, key=lambda name: ratios[name])
    return {**found["none"], "ratios": ratios, "slowest": slowest, "slowest_ratio": ratios[slowest]}


def main() -> None:
    options = arguments()
    kube_scheduler.require(options)
    relax()
    shapes = min(max(options.shapes, 1), 256)
    if options.constraint == "all":
        result = side_by_side(options, shapes)
    else:
        bench = Bench(options.nodes, shapes, options.constraint)
        fill([bench], options)
        result = figures([*measure(bench, options)])
    result |= {
        "rss_mib": round(resident_mb(os.getpid()) * 1e6 / 2**20),
        "nodes": options.nodes,
        "shapes": options.shapes,
        "constraint": options.constraint,
        "at_once": max(1, options.at_once),
        "decisions": options.decisions,
        "machine": machine(),
    }
    if options.beside:
        templates = islice(cycle(pod_templates(shapes, options.constraint)), options.peer_pods)
        result |= kube_scheduler.beside(fleet(options.nodes), list(templates), result["decisions_per_s"])
    title = f"{options.nodes} nodes, {options.shapes} shapes, constraint {options.constraint}"
    show_figures(title, result, Console())
    write_result(result)


if __name__ == "__main__":
    main()
