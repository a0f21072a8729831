"""`python -m tests.bench.evacuation`: how soon the pods of a lost cluster run elsewhere.

Three clusters, simulated or those of the real test bed (`--clusters real`: kube-apiserver, controllers, scheduler,
kwok), real Kafka, every service a process; one cluster has agents of its own. Its pods are Running when its agents are
killed (SIGKILL) at once. Timed are: until the first status says that the cluster is silent, and from
there until all workloads run elsewhere, each pod of the fleet ready and counted once (`fleet.status`). Then the agents
start again: what the cluster still ran has to go, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from services.cli.fleet import FleetOptions, LocalFleet, ServiceProcess
from services.cli.fleet.clusters import ClusterSource, RealClusters, SimulatedClusters
from services.cli.fleet.requesting import request_record
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.registry import decode
from shared.events.topics import STATUS
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase, WorkloadStatus
from shared.ports.event_log import START
from tests.bench.support import run_directory, show_figures, write_result

AGENTS = ("watcher", "executor")
REPLICAS = 10


# Each cluster has so many nodes, of 8 cores: room for all pods, and for half of them again.
_PODS_OF_NODE = 80


@dataclass(frozen=True, slots=True)
class Names:
    """The cluster that is lost, and the others."""

    lost: str
    others: tuple[str, ...]


SIMULATED = Names("lost", ("east", "west"))
REAL = Names("real-1", ("real-2", "real-3"))


def nodes_for(pods: int) -> int:
    return max(math.ceil(1.5 * pods / _PODS_OF_NODE), 2)


def specification(pods: int) -> str:
    group = {"name": "n", "count": nodes_for(pods), "cpu": "8", "memory": "32Gi"}
    timing = {"podStart": 1.0, "podStartJitter": 0.5}
    names = (SIMULATED.lost, *SIMULATED.others)
    return yaml.safe_dump({"clusters": [{"name": n, "timing": timing, "nodeGroups": [group]} for n in names]})


def request(number: int, clusters: Sequence[str] = ()) -> WorkloadRequested:
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}}
    pod_set = {"name": "main", "replicas": REPLICAS, "image": "nginx", "resources": resources}
    terms = {"placement": {"clusters": list(clusters)}} if clusters else {}
    body = {"namespace": "shop", "name": f"w{number:04d}", "podSets": [pod_set], **terms}
    return WorkloadRequested.model_validate({"operation": "apply", "workload": body})


class Scene:
    """The fleet, the agents of the cluster to be lost, and the statuses of all workloads as they are published."""

    def __init__(self, fleet: LocalFleet, names: Names, log: KafkaLog, agents: Mapping[str, ServiceProcess]) -> None:
        self._names = names
        self._fleet = fleet
        self._log = log
        self.agents = agents
        self.statuses: dict[str, WorkloadStatus] = {}

    async def follow(self, ready: asyncio.Event) -> None:
        reader = await self._log.reader("bench")
        try:
            await reader.assign(dict.fromkeys(await self._log.partitions(STATUS.name), START))
            ready.set()
            while True:
                for record in await reader.read(timeout_s=0.1):
                    key = (record.key or b"").decode()
                    if record.value is None:
                        self.statuses.pop(key, None)
                    else:
                        self.statuses[key] = decode(WorkloadStatus, record.value)
        finally:
            await reader.close()

    async def ask(self, requests: Sequence[WorkloadRequested]) -> None:
        publisher = await self._log.publisher("bench")
        try:
            for asked in requests:
                await publisher.send(request_record(asked, source="bench")[0])
            await publisher.flush()
        finally:
            await publisher.close()

    async def until(self, holds: Callable[[], bool], what: str, within_s: float = 240.0) -> float:
        """Seconds until it held. Raises RuntimeError after `within_s`."""
        began = time.monotonic()
        while not holds():
            self._fleet.check()
            if time.monotonic() - began > within_s:
                raise RuntimeError(f"not within {within_s:.0f} s: {what}; {next(iter(self.statuses.values()), None)}")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def start(self, workloads: int) -> None:
        """All run in the cluster that will be lost, and may run anywhere."""
        lost = [self._names.lost]
        await self.ask([request(number, lost) for number in range(workloads)])
        await self.until(lambda: self.running(workloads, lost), "all run where they are asked for")
        await self.ask([request(number) for number in range(workloads)])
        await self.until(lambda: self.running(workloads, lost, generation=2), "all run as they are asked for")

    def running_elsewhere(self, workloads: int) -> bool:
        return self.running(workloads, self._names.others)

    def running(self, workloads: int, in_clusters: Sequence[str], *, generation: int = 1) -> bool:
        return len(self.statuses) == workloads and all(
            status.phase is Phase.RUNNING
            and status.ready == REPLICAS
            and status.workload_generation >= generation
            and sum(part.counts.placed for part in status.clusters if part.cluster in in_clusters) == REPLICAS
            for status in self.statuses.values()
        )

    def silent(self) -> bool:
        return any(part.stale for status in self.statuses.values() for part in status.clusters)

    def gone(self) -> bool:
        """Nothing is left of any workload in the cluster that was lost."""
        return all(part.cluster != self._names.lost for status in self.statuses.values() for part in status.clusters)

    def lose(self) -> None:
        for agent in self.agents.values():
            agent.kill()

    async def bring_back(self) -> None:
        for agent in self.agents.values():
            agent.start()
        await asyncio.gather(*(agent.wait_ready() for agent in self.agents.values()))


@asynccontextmanager
async def scene(
    directory: Path,
    pods: int,
    say: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    *,
    real: bool = False,
) -> AsyncIterator[Scene]:
    names, kubeconfigs = REAL if real else SIMULATED, directory / "clusters"
    clusters: ClusterSource
    if real:
        clusters = RealClusters(kubeconfigs, nodes=nodes_for(pods))
    else:
        spec = directory / "clusters.yaml"
        spec.write_text(specification(pods))
        clusters = SimulatedClusters(kubeconfigs, spec, provision=False)
    options = FleetOptions(
        directory=directory,
        clusters=clusters,
        services=("scheduler", "status"),
        environment=environment or {},
        say=say,
    )
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(LocalFleet(options))
        agents: dict[str, dict[str, ServiceProcess]] = {}
        for side, members in {"lost": (names.lost,), "rest": names.others}.items():
            own = directory / side
            own.mkdir()
            for name in members:
                (own / f"{name}.kubeconfig").symlink_to(clusters.kubeconfigs / f"{name}.kubeconfig")
            agents[side] = {kind: _agent(fleet, kind, side, own) for kind in AGENTS}
            for agent in agents[side].values():
                agent.start()
                stack.push_async_callback(agent.stop)
        await asyncio.gather(*(agent.wait_ready() for side in agents.values() for agent in side.values()))
        log = await KafkaLog.connect(KafkaOptions(bootstrap=fleet.kafka), "bench")
        stack.push_async_callback(log.close)
        found, ready = Scene(fleet, names, log, agents["lost"]), asyncio.Event()
        following = asyncio.create_task(found.follow(ready))
        try:
            await ready.wait()
            yield found
            if following.done():
                following.result()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _agent(fleet: LocalFleet, kind: str, side: str, kubeconfigs: Path) -> ServiceProcess:
    environment = {**fleet.common_environment(), f"FLOTILLA_{kind.upper()}_KUBECONFIG_DIR": str(kubeconfigs)}
    return ServiceProcess(f"{kind}-{side}", f"services.{kind}", environment, fleet.directory / "services")


async def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> dict[str, Any]:
    workloads, real = arguments.pods // REPLICAS, arguments.clusters == "real"
    async with scene(directory, arguments.pods, console.print, real=real) as fleet:
        await fleet.start(workloads)
        console.print(f"{arguments.pods} pods run in one cluster: it is lost now")
        fleet.lose()
        noticed = await fleet.until(fleet.silent, "the loss is noticed")
        running = await fleet.until(lambda: fleet.running_elsewhere(workloads), "all run elsewhere")
        console.print(f"noticed after {noticed:.1f} s, all run elsewhere {running:.1f} s later: it comes back now")
        await fleet.bring_back()
        left = await fleet.until(fleet.gone, "nothing is left where they were")
        intact = fleet.running_elsewhere(workloads)
    return {
        "pods": arguments.pods,
        "clusters": arguments.clusters,
        "noticed_s": round(noticed, 2),
        "running_s": round(running, 2),
        "left_s": round(left, 2),
        "intact": intact,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.evacuation", description=__doc__)
    parser.add_argument("--pods", type=int, default=1000, help="pods in the cluster that is lost")
    parser.add_argument("--clusters", choices=("simulated", "real"), default="simulated")
    parser.add_argument("--dir", type=Path, help="keep data and logs here")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    with run_directory("evacuation", arguments.dir) as directory:
        result = asyncio.run(measure(arguments, directory, console))
    show_figures("a lost cluster", result, console)
    write_result(result)
    return 0 if result["intact"] and result["noticed_s"] <= 10 and result["running_s"] <= 30 else 1


if __name__ == "__main__":
    raise SystemExit(main())
