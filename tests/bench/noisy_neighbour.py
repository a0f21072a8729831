"""`python -m tests.bench.noisy_neighbour`: what one noisy tenant, or one noisy cluster, costs the others.

One scheduler as a process, real Kafka, clusters that are played. Quiet tenants ask for something a few times a second;
measured is the time from a request's publication until its placement can be read. In turns, `--rounds` times, so that
a busy moment of the machine hits all alike:

- quiet: nobody else does anything;
- tenant: another namespace publishes a burst of requests, and one more for each that is answered, so that it always
  waits for that many;
- cluster: the pods of one cluster change as fast as `--churn` says.

Quiet requests come at random moments, the same in every run, since much of what a scheduler does has a period.

Then the scheduler is stopped while requests and objects go on at the quiet rates, and started again: `catch_up` is how
many seconds of that are caught up in a second, from when it says that it is ready; it has yet to take the lead then.
`catch_up_started` counts from the start of its process. `memory_mb` is its resident memory before, and at its most.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.fleet.process import ServiceProcess
from services.cli.fleet.requesting import request_record
from services.scheduler.intake import lane_of
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.registry import decode
from shared.events.topics import ALL_TOPICS, PLACEMENTS
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.ports.event_log import END, EventLog, Publisher, Record
from shared.runtime.embedded import EmbeddedKafka
from tests.bench.fleet_log import Size, heartbeats, nodes, pod
from tests.bench.support import apply_request, beside, quantile, resident_mb, run_directory, write_result

SIZE = Size(clusters=10, nodes=500, workloads=2000)
QUIET = tuple(f"quiet-{number}" for number in range(5))
NOISY = "noisy"
LATEST_S = 120.0
SETTLE_S = 1.0
# The noisy tenant looks so often how many of its requests were answered.
_TOP_UP_S = 0.02


def request(namespace: str, number: int) -> WorkloadRequested:
    """A hundred workloads of each tenant, whose size changes with every turn, so that every request is decided."""
    turn, index = divmod(number, 100)
    return apply_request(namespace, f"w{index:03d}", cpu=f"{10 + turn % 50}m", memory="16Mi")


class Flood:
    """The noisy tenant: a process of its own, so that nobody else's requests wait for it in the benchmark itself.

    It keeps `burst` requests waiting while it is on.
    """

    def __init__(self, bootstrap: str, burst: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._on = context.Event()
        self._asked = context.Value("q", 0)
        self._answered = context.Value("q", 0)
        shared = (bootstrap, burst, self._on, self._asked, self._answered)
        self._process = context.Process(target=_flood, args=shared, daemon=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._process.start()
        try:
            yield
        finally:
            self._process.terminate()
            self._process.join()

    @contextmanager
    def on(self) -> Iterator[None]:
        self._on.set()
        try:
            yield
        finally:
            self._on.clear()

    @property
    def answered(self) -> int:
        return int(self._answered.value)

    def answer(self) -> None:
        self._answered.value += 1

    def waiting(self) -> int:
        return int(self._asked.value) - self.answered


def _flood(bootstrap: str, burst: int, on: Any, asked: Any, answered: Any) -> None:
    asyncio.run(_publish_flood(bootstrap, burst, on, asked, answered))


async def _publish_flood(bootstrap: str, burst: int, on: Any, asked: Any, answered: Any) -> None:
    log = await KafkaLog.connect(KafkaOptions(bootstrap=bootstrap), "noisy")
    publisher = await log.publisher("noisy")
    # Made beforehand, and used again: the cores are the scheduler's as well.
    records = [request_record(request(NOISY, number), source="bench")[0] for number in range(5000)]
    while True:
        while on.is_set() and asked.value - answered.value < burst:
            await publisher.send(records[asked.value % len(records)])
            asked.value += 1
        await asyncio.sleep(_TOP_UP_S)


@dataclass(slots=True)
class Placements:
    """When the placement of each request came. Those of the noisy tenant are only counted."""

    flood: Flood
    sent: dict[str, tuple[str, float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def follow(self, log: EventLog, ready: asyncio.Event) -> None:
        reader = await log.reader("placements")
        try:
            await reader.assign(dict.fromkeys(await log.partitions(PLACEMENTS.name), END))
            ready.set()
            while True:
                for record in await reader.read(timeout_s=0.5):
                    self._see(record)
        finally:
            await reader.close()

    def _see(self, record: Record) -> None:
        if lane_of(record) == NOISY:
            self.flood.answer()
            return
        placed = decode(PlacementPublished, record.value).placement
        found = self.sent.pop(placed.request.id, None) if placed is not None else None
        if found is not None:
            self.seconds[found[0]].append(time.monotonic() - found[1])


class World:
    def __init__(self, log: EventLog, publisher: Publisher, flood: Flood) -> None:
        self.log = log
        self.publisher = publisher
        self.flood = flood
        self.placements = Placements(flood)
        self._numbers: dict[str, int] = defaultdict(int)
        self._version = 1
        self._random = random.Random(1)

    async def ask(self, namespace: str, phase: str = "") -> None:
        number = self._numbers[namespace]
        self._numbers[namespace] += 1
        record, identity, _ = request_record(request(namespace, number), source="bench")
        if phase:
            self.placements.sent[identity] = (phase, time.monotonic())
        await self.publisher.send(record)

    async def quiet(self, phase: str, rate: float, seconds: float) -> None:
        """The quiet tenants' requests, one in each equal part of the time, for so long."""
        began = time.monotonic()
        for number in range(round(rate * seconds)):
            due = began + (number + self._random.random()) / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.ask(QUIET[number % len(QUIET)], phase)

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
        before = world.flood.answered
        with world.flood.on():
            await world.quiet("tenant", rate, seconds)
            done = world.flood.answered - before
        await world.settle()
        await world.until(world.flood.waiting)
        async with beside(world.churn(arguments.churn)):
            await world.quiet("cluster", rate, seconds)
            await world.settle()
        p99 = {name: round(quantile(values, 0.99) * 1000) for name, values in world.placements.seconds.items()}
        console.print(f"round {number + 1}: {done} of the noisy tenant's decided meanwhile; p99 so far {p99} ms")


async def catch_up(world: World, scheduler: ServiceProcess, rate: float, seconds: float) -> tuple[float, float]:
    """The scheduler is away while all goes on. How many seconds that takes: from when it is ready, and started."""
    await scheduler.stop()
    async with beside(world.churn(5 * rate)):
        await world.quiet("missed", rate, seconds)
    started = time.monotonic()
    scheduler.start()
    await scheduler.wait_ready()
    ready = time.monotonic()
    await world.until(lambda: len(world.placements.sent), look_s=0.01)
    done = time.monotonic()
    return done - ready, done - started


async def watch_memory(scheduler: ServiceProcess, seen: list[float]) -> None:
    while True:
        seen.append(resident_mb(scheduler.pid))
        await asyncio.sleep(0.5)


async def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> dict[str, Any]:
    async with EmbeddedKafka(directory / "kafka") as kafka:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "bench")
        await log.ensure_topics(ALL_TOPICS)
        publisher = await log.publisher("bench")
        flood = Flood(kafka.bootstrap, arguments.burst)
        world, ready, memory = World(log, publisher, flood), asyncio.Event(), list[float]()
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
                async with flood.running(), beside(watch_memory(scheduler, memory)):
                    await phases(world, arguments, console)
                caught_up = await catch_up(world, scheduler, arguments.rate, arguments.away)
        finally:
            await scheduler.stop()
            await publisher.close()
            await log.close()
    return summary(arguments, world.placements, memory, caught_up)


def summary(
    arguments: argparse.Namespace, placements: Placements, memory: Sequence[float], caught_up: tuple[float, float]
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
        "catch_up": round(arguments.away / caught_up[0], 1),
        "catch_up_started": round(arguments.away / caught_up[1], 1),
        "away": arguments.away,
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
    parser.add_argument("--burst", type=int, default=3000, help="requests of the noisy tenant that wait at any time")
    parser.add_argument("--churn", type=float, default=1000.0, help="objects of the noisy cluster that change a second")
    parser.add_argument("--away", type=float, default=120.0, help="seconds that are to be caught up")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    with run_directory("noisy") as directory:
        result = asyncio.run(measure(arguments, directory, console))
    show(result, console)
    write_result(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
