"""`python -m tests.bench.churn`: workloads that come and go all the time, through Kafka: memory and latency stay flat.

One scheduler as a process, real Kafka, `--clusters` that are played: they have nodes and heartbeats, and confirm at
once that a workload left them. `--rate` workloads are created a second, and each is deleted `--alive` seconds later.
Measured, for each of ten equal parts of the time: from a request's publication until its placement can be read, and
the scheduler's memory. The first part is left out of what is compared: the fleet fills in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.fleet.process import ServiceProcess
from services.cli.fleet.requesting import request_record
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.envelope import Envelope
from shared.events.registry import decode
from shared.events.topics import ALL_TOPICS, COMMAND_REPORTED, PLACEMENTS, RESULTS
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.model.identities import WORKLOAD_SUBJECT
from shared.ports.event_log import END, EventLog, NewRecord, Publisher
from shared.runtime.embedded import EmbeddedKafka
from shared.runtime.ids import new_id
from tests.bench.fleet_log import Size, heartbeats, nodes, now_ms
from tests.bench.support import apply_request, beside, quantile, resident_mb, run_directory, write_result

PARTS = 10
NODES = 20
LATEST_S = 120.0
_TICK_S = 0.02


@dataclass(slots=True)
class Part:
    """Seconds from request to placement of creations, the scheduler's memory at the end, and what then waited."""

    seconds: list[float] = field(default_factory=list)
    memory_mb: float = 0.0
    waiting: int = 0


class Clusters:
    """Reads placements, and confirms withdrawals as executors would."""

    def __init__(self, log: EventLog, publisher: Publisher) -> None:
        self._log = log
        self._publisher = publisher
        self.part = Part()
        self.placed = 0
        self.ended = 0

    async def follow(self, ready: asyncio.Event) -> None:
        reader = await self._log.reader("placements")
        try:
            await reader.assign(dict.fromkeys(await self._log.partitions(PLACEMENTS.name), END))
            ready.set()
            while True:
                for record in await reader.read(timeout_s=0.5):
                    if record.value is None:
                        self.ended += 1
                    else:
                        await self._see(decode(PlacementPublished, record.value))
        finally:
            await reader.close()

    async def _see(self, published: PlacementPublished) -> None:
        placed = published.placement
        assert placed is not None, published.rejection
        if not placed.deleting:
            self.placed += 1
            self.part.seconds.append((now_ms() - placed.request.published_at) / 1000)
        for cluster in placed.withdrawn:
            await self._publisher.send(withdrawn(cluster, str(placed.workload.key), published))


def withdrawn(cluster: str, key: str, published: PlacementPublished) -> NewRecord:
    report = CommandReported(
        cluster=cluster,
        subject=f"{WORKLOAD_SUBJECT}{key}",
        generation=published.generation,
        epoch=published.epoch,
        digest="",
        outcome="withdrawn",
        reported_at=now_ms(),
    )
    envelope = Envelope(
        id=new_id(),
        source="bench",
        type=COMMAND_REPORTED.ce_type,
        time_ms=report.reported_at,
        subject=report.subject,
    )
    record_key = f"{cluster}/{report.subject}".encode()
    return NewRecord(RESULTS.name, record_key, report.to_json(), envelope.to_headers(), partition_key=cluster.encode())


def deletion(namespace: str, name: str) -> WorkloadRequested:
    body = {"operation": "delete", "workload": {"namespace": namespace, "name": name}}
    return WorkloadRequested.model_validate(body)


class People:
    """Creates and deletes. `asked` counts creations, `gone` deletions."""

    def __init__(self, publisher: Publisher, rate: float, alive_s: float) -> None:
        self._publisher = publisher
        self._rate = rate
        self._alive_s = alive_s
        self._living: deque[tuple[float, str, str]] = deque()
        self.asked = 0
        self.gone = 0

    async def ask(self, seconds: float) -> None:
        began, first = time.monotonic(), self.asked
        while (now := time.monotonic()) < began + seconds:
            for _ in range(first + round((now - began) * self._rate) - self.asked):
                namespace, name = f"team-{self.asked % 50}", f"w{self.asked}"
                await self._send(apply_request(namespace, name, cpu="50m", memory="64Mi"))
                self._living.append((now, namespace, name))
                self.asked += 1
            while self._living and self._living[0][0] < now - self._alive_s:
                await self._delete()
            await asyncio.sleep(_TICK_S)

    async def end(self) -> None:
        """Deletes what is left."""
        while self._living:
            await self._delete()

    async def _delete(self) -> None:
        _, namespace, name = self._living.popleft()
        await self._send(deletion(namespace, name))
        self.gone += 1

    async def _send(self, request: WorkloadRequested) -> None:
        await self._publisher.send(request_record(request, source="bench")[0])


async def settle(clusters: Clusters, people: People) -> None:
    """Returns when everything that was deleted is gone."""
    async with asyncio.timeout(LATEST_S):
        while clusters.ended < people.gone:  # noqa: ASYNC110 - what stands in a log is looked at
            await asyncio.sleep(0.05)


async def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> list[Part]:
    size = Size(clusters=arguments.clusters, nodes=arguments.clusters * NODES, workloads=0)
    async with EmbeddedKafka(directory / "kafka") as kafka:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "bench")
        await log.ensure_topics(ALL_TOPICS)
        publisher = await log.publisher("bench")
        await publisher.send_many([*heartbeats(size), *nodes(size)])
        await publisher.flush()
        environment = {"FLOTILLA_KAFKA_BOOTSTRAP": kafka.bootstrap, "FLOTILLA_LOG_LEVEL": "WARNING"}
        scheduler = ServiceProcess("scheduler", "services.scheduler", environment, directory / "services")
        scheduler.start()
        clusters, ready, parts = Clusters(log, publisher), asyncio.Event(), list[Part]()
        people = People(publisher, arguments.rate, arguments.alive)
        try:
            async with beside(clusters.follow(ready)):
                await ready.wait()
                await scheduler.wait_ready()
                for number in range(PARTS):
                    clusters.part = part = Part()
                    await people.ask(arguments.seconds / PARTS)
                    part.memory_mb, part.waiting = resident_mb(scheduler.pid), people.asked - clusters.placed
                    parts.append(part)
                    p99 = quantile(part.seconds, 0.99) * 1000
                    console.print(
                        f"part {number + 1}: p99 {p99:.0f} ms, {part.memory_mb:.0f} MB, {part.waiting} wait",
                        highlight=False,
                    )
                await people.end()
                await settle(clusters, people)
        finally:
            await scheduler.stop()
            await publisher.close()
            await log.close()
    return parts


def summary(arguments: argparse.Namespace, parts: Sequence[Part]) -> dict[str, Any]:
    compared = parts[1:]
    p99 = [round(quantile(part.seconds, 0.99) * 1000, 1) for part in compared]
    return {
        "p50_ms": round(quantile([value for part in compared for value in part.seconds], 0.5) * 1000, 1),
        "p99_ms": round(quantile([value for part in compared for value in part.seconds], 0.99) * 1000, 1),
        "p99_ms_of_parts": p99,
        "memory_mb_of_parts": [round(part.memory_mb) for part in compared],
        "waiting_most": max(part.waiting for part in compared),
        "placed": sum(len(part.seconds) for part in parts),
        "clusters": arguments.clusters,
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "alive": arguments.alive,
        "load": round(os.getloadavg()[0], 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.churn", description=__doc__.partition("\n")[0])
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1000.0, help="workloads created a second")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--alive", type=float, default=5.0, help="seconds until a workload is deleted")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    with run_directory("churn") as directory:
        result = summary(arguments, asyncio.run(measure(arguments, directory, console)))
    table = Table(title="workloads that come and go", title_justify="left")
    for name in ("part", "p99 ms", "MB"):
        table.add_column(name, justify="right")
    for number, (p99, memory) in enumerate(zip(result["p99_ms_of_parts"], result["memory_mb_of_parts"], strict=True)):
        table.add_row(str(number + 2), str(p99), str(memory))
    console.print(table)
    write_result(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
