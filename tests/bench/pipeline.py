"""`python -m tests.bench.pipeline`: workloads through the whole fleet, and the time of each hop.

Simulated clusters (one process), a real broker and Redis, every service as a process of its own. All requests are
published as fast as the broker takes them, unless `--rate` says otherwise; then the latency of a hop is that of a
fleet under that load, not of a queue.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from services.cli.demo.display import hops, phases
from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import SimulatedClusters
from services.cli.fleet.requesting import request_record
from services.cli.fleet.tracking import Trace, Tracker
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from tests.bench.support import apply_request, run_directory, write_result

SERVICES = ("scheduler", "status", "watcher", "executor")


def specification(clusters: int, nodes: int) -> str:
    """Clusters of one shape and different prices, with fast pods: what is measured is the fleet, not the kubelets."""
    return yaml.safe_dump(
        {
            "clusters": [
                {
                    "name": f"c{number:03d}",
                    "region": f"region-{number % 5}",
                    "timing": {"podStart": 0.05, "podStartJitter": 0.0},
                    "nodeGroups": [
                        {"name": "n", "count": nodes, "cpu": "16", "memory": "64Gi", "pricePerHour": 0.1 + number % 7}
                    ],
                }
                for number in range(clusters)
            ]
        }
    )


def workload(number: int) -> WorkloadRequested:
    cpu = f"{50 * (1 + number % 4)}m"
    return apply_request(f"team-{number % 20}", f"w{number:06d}", cpu=cpu, memory="64Mi")


async def publish(tracker: Tracker, log: KafkaLog, count: int, rate: float) -> float:
    """Publishes every request; returns the seconds that it took."""
    publisher = await log.publisher("bench")
    began = time.monotonic()
    for number in range(count):
        record, identity, at_ms = request_record(workload(number), source="bench")
        tracker.requested(str(record.key, "utf-8") if record.key else "", Trace(at_ms, identity, Phase.RUNNING))
        await publisher.send(record)
        if rate and (ahead := began + number / rate - time.monotonic()) > 0:
            await asyncio.sleep(ahead)
    await publisher.flush()
    await publisher.close()
    return time.monotonic() - began


async def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> dict[str, Any]:
    spec = directory / "clusters.yaml"
    spec.write_text(specification(arguments.clusters, arguments.nodes))
    options = FleetOptions(
        directory=directory,
        clusters=SimulatedClusters(directory / "clusters", spec, provision=False),
        services=SERVICES,
        environment={"FLOTILLA_LOG_LEVEL": os.environ.get("FLOTILLA_LOG_LEVEL", "WARNING")},
        say=console.print,
    )
    async with LocalFleet(options) as fleet:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=fleet.kafka), "bench")
        tracker, ready = Tracker(), asyncio.Event()
        following = asyncio.create_task(tracker.follow(log, ready))
        await ready.wait()
        began = time.monotonic()
        published_s = await publish(tracker, log, arguments.workloads, arguments.rate)
        while tracker.unmet and time.monotonic() - began < arguments.timeout:
            fleet.check()
            if following.done():
                following.result()
            await asyncio.sleep(0.1)
        running_s = time.monotonic() - began
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await log.close()
    console.print(phases(tracker))
    console.print(hops(tracker))
    return summary(arguments, tracker, published_s, running_s)


def summary(arguments: argparse.Namespace, tracker: Tracker, published_s: float, running_s: float) -> dict[str, Any]:
    latencies = tracker.latencies()
    first = min(trace.published_at for trace in tracker.traces.values())
    placed = [trace.placed_at for trace in tracker.traces.values() if trace.placed_at is not None]
    placing_s = max((max(placed) - first) / 1000, 0.001) if placed else float("nan")
    result: dict[str, Any] = {
        "clusters": arguments.clusters,
        "nodes": arguments.nodes,
        "workloads": arguments.workloads,
        "rate": arguments.rate,
        "running": sum(trace.phase is Phase.RUNNING for trace in tracker.traces.values()),
        "published_s": round(published_s, 2),
        "running_s": round(running_s, 2),
        "placements_per_s": round(len(placed) / placing_s, 1),
    }
    for hop, row in latencies.items():
        result |= {f"{hop}_{name}": round(row[name], 1) for name in ("p50_ms", "p99_ms", "max_ms")}
    return result | {"cpus": os.cpu_count(), "python": platform.python_version()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pipeline", description=__doc__)
    parser.add_argument("--clusters", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=100, help="nodes of each cluster")
    parser.add_argument("--workloads", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as fast as possible")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds until what is not Running counts as lost")
    parser.add_argument("--dir", type=Path, help="keep data and logs here")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    with run_directory("bench", arguments.dir) as directory:
        result = asyncio.run(measure(arguments, directory, console))
    write_result(result)
    return 0 if result["running"] == arguments.workloads else 1


if __name__ == "__main__":
    raise SystemExit(main())
