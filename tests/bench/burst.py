"""`python -m tests.bench.burst`: how fast one scheduler places a backlog, with nothing else on the machine.

A scheduler as a process, real Kafka, clusters that are played and stand still: no executors, no pods, no status. What
is measured is from the first request's publication until the last placement can be read, and the CPU that the
scheduler took meanwhile. A round is one burst; all requests of one are different workloads.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.fleet.process import ServiceProcess
from services.cli.fleet.requesting import request_record
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import ALL_TOPICS, PLACEMENTS
from shared.ports.event_log import END, Publisher, Reader
from shared.runtime.embedded import EmbeddedKafka
from tests.bench.fleet_log import Size, heartbeats, nodes
from tests.bench.support import apply_request, cpu_s, run_directory, write_result

SIZE = Size(clusters=10, nodes=500, workloads=0)
LATEST_S = 120.0
SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Burst:
    """One round: the seconds that it took, and those of CPU that the scheduler took."""

    seconds: float
    cpu_s: float


async def burst(arguments: argparse.Namespace, number: int, publisher: Publisher, reader: Reader, pid: int) -> Burst:
    requests = (
        apply_request(f"team-{index % arguments.namespaces}", f"r{number}-{index}", cpu="10m", memory="16Mi")
        for index in range(arguments.requests)
    )
    records = [request_record(request, source="bench")[0] for request in requests]
    await asyncio.sleep(SETTLE_S)
    cpu, began, seen = cpu_s(pid), time.monotonic(), 0
    await publisher.send_many(records)
    await publisher.flush()
    async with asyncio.timeout(LATEST_S):
        while seen < arguments.requests:
            seen += len(await reader.read(timeout_s=0.5))
    return Burst(time.monotonic() - began, cpu_s(pid) - cpu)


async def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> list[Burst]:
    async with EmbeddedKafka(directory / "kafka") as kafka:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "bench")
        await log.ensure_topics(ALL_TOPICS)
        publisher, reader = await log.publisher("bench"), await log.reader("placements")
        await publisher.send_many([*heartbeats(SIZE), *nodes(SIZE)])
        await publisher.flush()
        environment = {"FLOTILLA_KAFKA_BOOTSTRAP": kafka.bootstrap, "FLOTILLA_LOG_LEVEL": "WARNING"}
        scheduler = ServiceProcess("scheduler", "services.scheduler", environment, directory / "services")
        scheduler.start()
        try:
            await scheduler.wait_ready()
            await reader.assign(dict.fromkeys(await log.partitions(PLACEMENTS.name), END))
            rounds = []
            for number in range(arguments.rounds):
                rounds.append(await burst(arguments, number, publisher, reader, scheduler.pid))
                console.print(f"round {number + 1}: {arguments.requests / rounds[-1].seconds:.0f} placements/s")
        finally:
            await scheduler.stop()
            await reader.close()
            await publisher.close()
            await log.close()
    return rounds


def summary(arguments: argparse.Namespace, rounds: Sequence[Burst]) -> dict[str, Any]:
    rates = sorted(arguments.requests / item.seconds for item in rounds)
    return {
        "placements_per_s": round(rates[len(rates) // 2]),
        "placements_per_s_of": [round(rates[0]), round(rates[-1])],
        "scheduler_cpu_ms": round(1000 * sum(item.cpu_s for item in rounds) / len(rounds) / arguments.requests, 3),
        "namespaces": arguments.namespaces,
        "requests": arguments.requests,
        "rounds": arguments.rounds,
        "load": round(os.getloadavg()[0], 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.burst", description=__doc__.partition("\n")[0])
    parser.add_argument("--namespaces", type=int, default=1)
    parser.add_argument("--requests", type=int, default=3000, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    with run_directory("burst") as directory:
        result = summary(arguments, asyncio.run(measure(arguments, directory, console)))
    table = Table(title="a backlog, placed", title_justify="left")
    for name in ("namespaces", "placements/s", "from", "to", "CPU ms of each"):
        table.add_column(name, justify="right")
    cells = (result["namespaces"], result["placements_per_s"], *result["placements_per_s_of"])
    table.add_row(*map(str, cells), str(result["scheduler_cpu_ms"]))
    console.print(table)
    write_result(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
