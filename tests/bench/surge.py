"""`python -m tests.bench.surge`: a workload from 1 replica to 1,000 and back, and the nodes for it.

Ten simulated clusters at different prices, each with two node groups, real Kafka, every service a process. An external
metric, which every cluster tells, asks for so many replicas at once, and then for one again. From the log is counted:
how soon all replicas are ready, how many nodes came and what they cost, beside the cheapest sizes that have room for
all; whether a group was ever larger than it may be, or a node asked for more than it has; and how soon the groups are
back at their least sizes, with one replica that is ready.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from rich.console import Console

from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import SimulatedClusters
from services.cli.fleet.local import SERVICES
from services.cli.fleet.requesting import request_record
from services.hub.decision.resources import API_VERSION, CLUSTERS
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.ports.cluster_api import ApplyOptions
from shared.ports.event_log import START
from tests.bench.support import beside, run_directory, show_figures, write_result
from tests.bench.surge_seen import FOLLOWED, Group, SurgeSeen, least_price

Json = dict[str, Any]
_NAMESPACE, _NAME, _METRIC = "shop", "surge", "orders-waiting"
_POD: Final = {"cpu": "500m", "memory": "512Mi"}
_DEADLINE = aiohttp.ClientTimeout(total=20)
# What scales down waits for less than it would by default, so that it is seen; growth is as it is by default, but for
# the time between two samples.
ENVIRONMENT: Final = {
    "FLOTILLA_WATCHER_METRICS_S": "2",
    "FLOTILLA_EXECUTOR_NODE_GROUP_BUSY_S": "1",
    "FLOTILLA_AUTOSCALER_NODES_PERIOD_S": "2",
    "FLOTILLA_AUTOSCALER_UNNEEDED_S": "10",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """Of a node group: `cpu` of a node, of which a pod takes half a one; memory is enough."""

    name: str
    cpu: int
    least: int
    most: int
    price: float


KINDS: Final = (Kind("small", 4, 1, 6, 0.20), Kind("large", 16, 0, 3, 0.70))


def dearer(cluster: int) -> float:
    """How many times as much the nodes of a cluster cost as those of the first."""
    return 1 + 0.02 * cluster


def groups_of(clusters: int) -> dict[tuple[str, str], Group]:
    found = (
        Group(f"sim-{n}", kind.name, kind.least, kind.most, kind.price * dearer(n), room=2 * kind.cpu)
        for n in range(clusters)
        for kind in KINDS
    )
    return {(group.cluster, group.name): group for group in found}


def declared(cluster: int) -> Json:
    """The Cluster object, with its node groups."""
    groups = [
        {
            "name": kind.name,
            "minSize": kind.least,
            "maxSize": kind.most,
            "price": kind.price * dearer(cluster),
            "template": {"allocatable": {"cpu": str(kind.cpu), "memory": f"{4 * kind.cpu}Gi", "pods": "110"}},
            "provider": {"kind": "kwok"},
        }
        for kind in KINDS
    ]
    name = f"sim-{cluster}"
    return {"apiVersion": API_VERSION, "kind": "Cluster", "metadata": {"name": name}, "spec": {"nodeGroups": groups}}


def surging(most: int) -> WorkloadRequested:
    """As many replicas as the metric says, at once both ways.

    Without a tolerance: within one a HorizontalPodAutoscaler asks for as many as there are, and on their way are fewer.
    """
    policies = [{"type": "Pods", "value": most, "periodSeconds": 5}]
    rules = {"stabilizationWindowSeconds": 0, "tolerance": "0", "policies": policies}
    target = {"type": "AverageValue", "averageValue": "1"}
    pod_set = {"name": "main", "replicas": 1, "image": "nginx", "resources": {"requests": _POD}}
    scaling = {
        "minReplicas": 1,
        "maxReplicas": most,
        "metrics": [{"type": "External", "external": {"metric": {"name": _METRIC}, "target": target}}],
        "behavior": {"scaleUp": rules, "scaleDown": rules},
    }
    body = {"namespace": _NAMESPACE, "name": _NAME, "podSets": [pod_set], "scaling": scaling}
    return WorkloadRequested.model_validate({"operation": "apply", "workload": body})


class Surge:
    """A running fleet, and what is asked of it."""

    def __init__(self, fleet: LocalFleet, log: KafkaLog, clusters: int, most: int) -> None:
        self._fleet, self._log, self._clusters, self.most = fleet, log, clusters, most
        self.seen = SurgeSeen(f"{_NAMESPACE}/{_NAME}", groups_of(clusters))

    async def follow(self) -> None:
        reader = await self._log.reader("bench")
        try:
            await reader.assign({place: START for name in FOLLOWED for place in await self._log.partitions(name)})
            while True:
                for record in await reader.read(timeout_s=0.1):
                    self.seen.fold(record)
                self.seen.count_time()
        finally:
            await reader.close()

    async def declare(self) -> None:
        """Each cluster with its node groups, at the hub."""
        hub = await KubernetesApi.from_kubeconfig(self._fleet.hub_kubeconfig)
        try:
            for number in range(self._clusters):
                body = declared(number)
                await hub.apply(CLUSTERS, "", body["metadata"]["name"], body, ApplyOptions(manager="bench"))
        finally:
            await hub.close()

    async def ask(self) -> None:
        publisher = await self._log.publisher("bench")
        try:
            await publisher.send(request_record(surging(self.most), source="bench")[0])
            await publisher.flush()
        finally:
            await publisher.close()

    async def measure(self, value: int) -> None:
        """Each cluster tells the metric so from now on."""
        body = {"values": [{"type": "External", "metric": _METRIC, "namespace": _NAMESPACE, "value": str(value)}]}
        async with aiohttp.ClientSession(timeout=_DEADLINE, raise_for_status=True) as session:
            for url in await self._simulated():
                async with session.put(f"{url}/metrics", json=body):
                    pass

    async def _simulated(self) -> list[str]:
        """Of each member the simulator's own address."""
        found = []
        for number in range(self._clusters):
            api = await KubernetesApi.from_kubeconfig(self._fleet.kubeconfigs / f"sim-{number}.kubeconfig")
            host, _, path = api.server.partition("/clusters/")
            found.append(f"{host}/simulator/clusters/{path}")
            await api.close()
        return found

    async def until(self, holds: Callable[[], bool], what: str, within_s: float = 240.0) -> float:
        """Seconds until it held. Raises RuntimeError after `within_s`."""
        began = time.monotonic()
        while not holds():
            self._fleet.check()
            if time.monotonic() - began > within_s:
                sizes = {"/".join(key): count for key, count in sorted(self.seen.sizes.items())}
                status = self.seen.status
                raise RuntimeError(f"not within {within_s:.0f} s: {what}; {self.seen.asked=} {sizes} {status}")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    def running(self, replicas: int) -> bool:
        status = self.seen.status
        return (
            status is not None
            and status.phase is Phase.RUNNING
            and (status.desired, status.ready) == (replicas, replicas)
        )

    def at_rest(self) -> bool:
        """One replica, and no node more than there must be."""
        return self.running(1) and self.seen.least and self.seen.nodes_ready


@asynccontextmanager
async def surge(directory: Path, clusters: int, most: int, say: Callable[[str], None]) -> AsyncIterator[Surge]:
    """A fleet at rest: the groups at their least sizes, and one replica that runs."""
    specification = directory / "clusters.yaml"
    timing = {"podStart": 1.0, "podStartJitter": 0.5}
    members: list[Mapping[str, Any]] = [
        {"name": f"sim-{number}", "timing": timing, "nodeGroups": []} for number in range(clusters)
    ]
    specification.write_text(yaml.safe_dump({"clusters": [*members, {"name": "hub", "controllers": False}]}))
    source = SimulatedClusters(directory / "clusters", specification, provision=False)
    services = (*SERVICES, "autoscaler")
    options = FleetOptions(directory, source, services=services, environment=ENVIRONMENT, say=say)
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(LocalFleet(options))
        log = await KafkaLog.connect(KafkaOptions(bootstrap=fleet.kafka), "bench")
        stack.push_async_callback(log.close)
        found = Surge(fleet, log, clusters, most)
        await stack.enter_async_context(beside(found.follow()))
        await found.measure(1)
        await found.declare()
        await found.ask()
        await found.until(found.at_rest, "one replica and the least nodes")
        yield found


async def up_and_down(fleet: Surge, say: Callable[[str], None]) -> Json:
    """The figures of one surge."""
    seen, most, began = fleet.seen, fleet.most, time.monotonic()
    seen.count_time()
    spent, orders = seen.spent, seen.orders
    await fleet.measure(most)
    asked = await fleet.until(lambda: seen.asked == most, "all replicas are asked for")
    await fleet.until(lambda: fleet.running(most), "all replicas are ready")
    ready, price, sizes = time.monotonic() - began, seen.price, seen.sizes
    say(f"{most} replicas ready after {ready:.1f} s, on {sizes.total()} nodes: the metric falls now")
    up, fell = seen.orders - orders, time.monotonic()
    await fleet.measure(1)
    await fleet.until(lambda: fleet.running(1), "one replica is left")
    back = time.monotonic() - fell
    await fleet.until(fleet.at_rest, "one replica and the least nodes again")
    shrunk = time.monotonic() - fell
    seen.count_time()
    cheapest = least_price(seen.groups, most)
    return {
        "asked_s": round(asked, 2),
        "ready_s": round(ready, 2),
        "back_s": round(back, 2),
        "shrunk_s": round(shrunk, 2),
        "nodes": sizes.total(),
        "groups_grown": sum(count > seen.groups[key].least for key, count in sizes.items()),
        "price_per_hour": round(price, 3),
        "cost_ratio": round(price / cheapest, 4),
        "spent": round(seen.spent - spent, 4),
        "orders_up": up,
        "orders": seen.orders - orders,
        "above_most": seen.above_most,
        "overcommitted": sorted(seen.overcommitted),
    }


async def measured(arguments: argparse.Namespace, directory: Path, console: Console) -> Json:
    async with surge(directory, arguments.clusters, arguments.replicas, console.print) as fleet:
        console.print("one replica runs: the metric jumps now")
        figures = await up_and_down(fleet, console.print)
    load = os.getloadavg()[0]
    machine = {"load": round(load, 1), "cpus": os.cpu_count(), "python": platform.python_version()}
    return {"clusters": arguments.clusters, "replicas": arguments.replicas, **figures, **machine}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.surge", description=__doc__)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--dir", type=Path, help="keep data and logs here")
    arguments = parser.parse_args(argv)
    room = sum(group.most * group.room for group in groups_of(arguments.clusters).values())
    if arguments.replicas > room:
        parser.error(f"the groups of {arguments.clusters} clusters have room for {room} replicas at most")
    console = Console(stderr=True)
    with run_directory("surge", arguments.dir) as directory:
        result = asyncio.run(measured(arguments, directory, console))
    show_figures("a surge", result, console)
    write_result(result)
    return 1 if result["above_most"] or result["overcommitted"] or not result["groups_grown"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
