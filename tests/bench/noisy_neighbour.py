"""`python -m tests.bench.noisy_neighbour`: what one noisy tenant, or one noisy cluster, costs the others.

One scheduler as a process, real Kafka, clusters that are played. Quiet tenants ask for something a few times a second;
measured is the time from a request's publication until its placement can be read. In turns, `--rounds` times, so that
a busy moment of the machine hits all alike:

- quiet: nobody else does anything;
- tenant: another namespace publishes a burst of requests, which take longer than the phase to decide;
- cluster: the pods of one cluster change as fast as `--churn` says.

Then the scheduler is stopped while requests and objects go on at the quiet rates, and started again: `catch_up` is how
many seconds of that are caught up in a second. `memory_mb` is the scheduler's resident memory before, and at its most.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.fleet.process import ServiceProcess
from services.cli.fleet.requesting import request_record
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.registry import decode
from shared.events.topics import ALL_TOPICS, PLACEMENTS
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.ports.event_log import END, EventLog, Publisher
from shared.runtime.embedded import EmbeddedKafka
from tests.bench.fleet_log import Size, heartbeats, nodes, pod
from tests.bench.support import apply_request, beside, quantile, resident_mb, run_directory, write_result

SIZE = Size(clusters=10, nodes=500, workloads=2000)
QUIET = tuple(f"quiet-{number}" for number in range(5))
LATEST_S = 120.0
SETTLE_S = 1.0


def request(namespace: str, number: int) -> WorkloadRequested:
    """A hundred workloads of each tenant, whose size changes with every turn, so that every request is decided."""
    turn, index = divmod(number, 100)
    return apply_request(namespace, f"w{index:03d}", cpu=f"{10 + turn % 50}m", memory="16Mi")


@dataclass(slots=True)
class Placements:
    """When the placement of each request came. Requests that nobody waits for are only counted."""

    sent: dict[str, tuple[str, float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    others: int = 0

    async def follow(self, log: EventLog, ready: asyncio.Event) -> None:
        reader = await log.reader("placements")
        try:
            await reader.assign(dict.fromkeys(await log.partitions(PLACEMENTS.name), END))
            ready.set()
            while True:
                for record in await reader.read(timeout_s=0.5):
                    self._see(record.value)
        finally:
            await reader.close()

    def _see(self, value: bytes | None) -> None:
        if value is None:
            return
        placed = decode(PlacementPublished, value).placement
        found = self.sent.pop(placed.request.id, None) if placed is not None else None
        if found is None:
            self.others += 1
        else:
            self.seconds[found[0]].append(time.monotonic() - found[1])


class World:
    def __init__(self, log: EventLog, publisher: Publisher) -> None:
        self.log = log
        self.publisher = publisher
        self.placements = Placements()
        self._numbers: dict[str, int] = defaultdict(int)
        self._version = 1

    async def ask(self, namespace: str, phase: str = "") -> None:
        number = self._numbers[namespace]
        self._numbers[namespace] += 1
        record, identity, _ = request_record(request(namespace, number), source="bench")
        if phase:
            self.placements.sent[identity] = (phase, time.monotonic())
        await self.publisher.send(record)

    async def quiet(self, phase: str, rate: float, seconds: float) -> None:
        """The quiet tenants' requests, evenly, for so long."""
        began, number = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            await self.ask(QUIET[number % len(QUIET)], phase)
            number += 1
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))

    async def churn(self, rate: float) -> None:
        """Pods of the first cluster change, so many in a second, until cancelled."""
        began, sent = time.monotonic(), 0
        numbers = range(0, SIZE.workloads, SIZE.clusters)
        while True:
            due = round((time.monotonic() - began) * rate)
            records = []
            for index in range(sent, due):
                self._version += 1
                number = numbers[index % len(numbers)]
                records.append(pod(SIZE, number, self._version, ready=index % 2 == 0))
            sent = due
            await self.publisher.send_many(records)
            await asyncio.sleep(0.02)

    async def settle(self) -> None:
        """Returns when every request that is waited for was answered."""
        await self.until(lambda: len(self.placements.sent))
        await asyncio.sleep(SETTLE_S)

    async def until(self, unanswered: Callable[[], int], look_s: float = 0.05) -> None:
        """Returns when no request is left. Raises RuntimeError if that takes too long."""
        deadline = time.monotonic() + LATEST_S
        while (left := unanswered()) > 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{left} requests were not answered in {LATEST_S:.0f} s")
            await asyncio.sleep(look_s)


async def phases(world: World, arguments: argparse.Namespace, console: Console) -> None:
    rate, seconds = arguments.rate, arguments.seconds
    for number in range(arguments.rounds):
        await world.quiet("quiet", rate, seconds)
        await world.settle()
        before, wanted = world.placements.others, arguments.burst
        for _ in range(wanted):
            await world.ask("noisy")
        await world.quiet("tenant", rate, seconds)
        await world.settle()
        done = world.placements.others - before
        await world.until(lambda end=before + wanted: end - world.placements.others)  # type: ignore[misc]
        async with beside(world.churn(arguments.churn)):
            await world.quiet("cluster", rate, seconds)
            await world.settle()
        p99 = {name: round(quantile(values, 0.99) * 1000) for name, values in world.placements.seconds.items()}
        console.print(f"round {number + 1}: {done}/{wanted} of the burst decided meanwhile; p99 so far {p99} ms")


async def catch_up(world: World, scheduler: ServiceProcess, rate: float, seconds: float) -> float:
    """The scheduler is away while requests and objects go on; how many times faster than they came it takes them."""
    await scheduler.stop()
    async with beside(world.churn(5 * rate)):
        await world.quiet("missed", rate, seconds)
    scheduler.start()
    await scheduler.wait_ready()
    began = time.monotonic()
    await world.until(lambda: len(world.placements.sent), look_s=0.01)
    return seconds / (time.monotonic() - began)


async def watch_memory(scheduler: ServiceProcess, seen: list[float]) -> None:
    while True:
        seen.append(resident_mb(scheduler.pid))
        await asyncio.sleep(0.5)


async def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> dict[str, Any]:
    async with EmbeddedKafka(directory / "kafka") as kafka:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "bench")
        await log.ensure_topics(ALL_TOPICS)
        publisher = await log.publisher("bench")
        world, ready, memory = World(log, publisher), asyncio.Event(), list[float]()
        await publisher.send_many([*heartbeats(SIZE), *nodes(SIZE)])
        await publisher.flush()
        environment = {"FLOTILLA_KAFKA_BOOTSTRAP": kafka.bootstrap, "FLOTILLA_LOG_LEVEL": "INFO"}
        scheduler = ServiceProcess("scheduler", "services.scheduler", environment, directory / "services")
        scheduler.start()
        try:
            async with beside(world.placements.follow(log, ready)):
                await ready.wait()
                await scheduler.wait_ready()
                await world.quiet("warm-up", arguments.rate, 5.0)
                await world.settle()
                async with beside(watch_memory(scheduler, memory)):
                    await phases(world, arguments, console)
                ratio = await catch_up(world, scheduler, arguments.rate, arguments.away)
        finally:
            await scheduler.stop()
            await publisher.close()
            await log.close()
    return summary(arguments, world.placements, memory, ratio)


def summary(
    arguments: argparse.Namespace, placements: Placements, memory: Sequence[float], ratio: float
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for phase in ("quiet", "tenant", "cluster"):
        values = placements.seconds[phase]
        result |= {
            f"{phase}_p50_ms": round(quantile(values, 0.5) * 1000, 1),
            f"{phase}_p99_ms": round(quantile(values, 0.99) * 1000, 1),
            f"{phase}_requests": len(values),
        }
    quiet = result["quiet_p99_ms"]
    return result | {
        "tenant_ratio": round(result["tenant_p99_ms"] / quiet, 2),
        "cluster_ratio": round(result["cluster_p99_ms"] / quiet, 2),
        "catch_up": round(ratio, 1),
        "memory_mb": [round(memory[0]), round(max(memory))],
        "burst": arguments.burst,
        "churn": arguments.churn,
        "rate": arguments.rate,
        "load": round(os.getloadavg()[0], 1),
    }


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title="quiet tenants: request → placement", title_justify="left")
    for name in ("neighbour", "requests", "p50 ms", "p99 ms", "x quiet"):
        table.add_column(name, justify="left" if name == "neighbour" else "right")
    for phase in ("quiet", "tenant", "cluster"):
        ratio = str(result.get(f"{phase}_ratio", 1))
        cells = (f"{phase}_requests", f"{phase}_p50_ms", f"{phase}_p99_ms")
        table.add_row(phase, *(str(result[cell]) for cell in cells), ratio)
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.noisy_neighbour", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--rate", type=float, default=20.0, help="the quiet tenants' requests a second, together")
    parser.add_argument("--burst", type=int, default=5000, help="requests of the noisy tenant at once")
    parser.add_argument("--churn", type=float, default=1000.0, help="objects of the noisy cluster that change a second")
    parser.add_argument("--away", type=float, default=60.0, help="seconds that are to be caught up")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    with run_directory("noisy") as directory:
        result = asyncio.run(measure(arguments, directory, console))
    show(result, console)
    write_result(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
