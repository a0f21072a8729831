"""`python -m tests.bench.churn`: workloads that come and go all the time, through Kafka: memory and latency stay flat.

One scheduler as a process, real Kafka, `--clusters` that are played: they have nodes and heartbeats, and confirm at
once that a workload left them. `--rate` workloads are created a second, and each is deleted `--alive` seconds later.
Measured, for each of ten equal parts of the time: from a request's publication until its placement can be read, the
scheduler's memory, and of scheduler, broker and this process the CPU that they used, and how long they were ready to
run and had no core: whoever falls behind and waits for a core lacks CPU, and not an answer. The first part is left out
of what is compared: the fleet fills in it.

The three processes share the machine, so this one does no more than it must: what is alike in all requests is encoded
once, what is due is sent in batches, and of a placement it reads the few fields that it asks for.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from services.cli.fleet.process import ServiceProcess
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kafka.partitioner import partition_for
from shared.events.envelope import Envelope
from shared.events.topics import ALL_TOPICS, COMMAND_REPORTED, PLACEMENTS, REQUESTED, REQUESTS, RESULTS, MessageType
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.results import CommandReported
from shared.model.identities import WORKLOAD_SUBJECT
from shared.ports.event_log import END, EventLog, NewRecord, Publisher
from shared.runtime.embedded import EmbeddedKafka
from shared.runtime.ids import new_id
from tests.bench.fleet_log import Size, heartbeats, nodes, now_ms
from tests.bench.support import (
    apply_request,
    beside,
    core_wait_s,
    cpu_s,
    quantile,
    resident_mb,
    run_directory,
    write_result,
)

PARTS = 10
NODES = 20
LATEST_S = 120.0
_TICK_S = 0.02
# What stands for a workload's namespace and name in what was encoded once.
_NAMESPACE, _NAME = b"any-namespace", b"any-name"
_PARTITION = attrgetter("partition")


@dataclass(slots=True)
class Part:
    """Seconds from request to placement of creations; at the end the scheduler's memory, and what then waited.

    By process: `cpu_ms` is of each request, a creation or a deletion; `cpu_s` is of the whole part, and so is
    `lacked_s`: then it was ready to run and had no core.
    """

    seconds: list[float] = field(default_factory=list)
    memory_mb: float = 0.0
    waiting: int = 0
    cpu_ms: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    lacked_s: dict[str, float] = field(default_factory=dict)
    # The entries of the journal that were published in it.
    entries: set[int] = field(default_factory=set)
    records: int = 0


class _Request(msgspec.Struct, rename="camel", gc=False):
    published_at: int


class _Workload(msgspec.Struct, rename="camel", gc=False):
    namespace: str
    name: str


class _Placement(msgspec.Struct, rename="camel", gc=False):
    workload: _Workload
    request: _Request
    deleting: bool = False
    withdrawn: tuple[str, ...] = ()


class _Published(msgspec.Struct, rename="camel", gc=False):
    """All that is asked of a record of `fleet.placements`. One without a placement is a refusal, and an error here."""

    epoch: int
    generation: int
    placement: _Placement


published_from = msgspec.json.Decoder(_Published).decode


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
        results = len(await self._log.partitions(RESULTS.name))
        try:
            await reader.assign(dict.fromkeys(await self._log.partitions(PLACEMENTS.name), END))
            ready.set()
            while True:
                reports: list[NewRecord] = []
                records, now = await reader.read(timeout_s=0.5), now_ms()
                for record in records:
                    if record.value is None:
                        self.ended += 1
                    else:
                        published = published_from(record.value)
                        self._see(published.placement, now)
                        self.part.entries.add(published.generation)
                        self.part.records += 1
                        reports += (withdrawn(name, published, now) for name in published.placement.withdrawn)
                await send_together(self._publisher, reports, results)
        finally:
            await reader.close()

    def _see(self, placed: _Placement, now: int) -> None:
        if not placed.deleting:
            self.placed += 1
            self.part.seconds.append((now - placed.request.published_at) / 1000)


def _withdrawn() -> bytes:
    """A report with places for cluster, subject, epoch, generation and time, in the order of its fields."""
    report = CommandReported(
        cluster="%s", subject="%s", epoch=-1, generation=-2, digest="", outcome="withdrawn", reported_at=-3
    )
    return report.to_json().replace(b"-1", b"%d").replace(b"-2", b"%d").replace(b"-3", b"%d")


_WITHDRAWN = _withdrawn()


def withdrawn(cluster: str, published: _Published, now: int) -> NewRecord:
    workload = published.placement.workload
    subject = f"{WORKLOAD_SUBJECT}{workload.namespace}/{workload.name}"
    report = _WITHDRAWN % (cluster.encode(), subject.encode(), published.epoch, published.generation, now)
    headers = _headers(COMMAND_REPORTED, subject, now)
    key = f"{cluster}/{subject}".encode()
    return NewRecord(RESULTS.name, key, report, headers, partition_key=cluster.encode())


def _headers(kind: MessageType, subject: str, now: int) -> tuple[tuple[str, bytes], ...]:
    return Envelope(id=new_id(), source="bench", type=kind.ce_type, time_ms=now, subject=subject).to_headers()


async def send_together(publisher: Publisher, records: Iterable[NewRecord], partitions: int) -> None:
    """As batches, one for each partition."""
    placed = [
        record._replace(partition=partition_for(record.partition_key or record.key or b"", partitions))
        for record in records
    ]
    await publisher.send_many(sorted(placed, key=_PARTITION))


def deletion(namespace: str, name: str) -> WorkloadRequested:
    body = {"operation": "delete", "workload": {"namespace": namespace, "name": name}}
    return WorkloadRequested.model_validate(body)


_CREATION = apply_request(_NAMESPACE.decode(), _NAME.decode(), cpu="50m", memory="64Mi").to_json()
_DELETION = deletion(_NAMESPACE.decode(), _NAME.decode()).to_json()


class People:
    """Creates and deletes. `asked` counts creations, `gone` deletions; `partitions` are those of the requests."""

    def __init__(self, publisher: Publisher, partitions: int, rate: float, alive_s: float) -> None:
        self._publisher = publisher
        self._partitions = partitions
        self._rate = rate
        self._alive_s = alive_s
        self._living: deque[tuple[float, str, str]] = deque()
        self.asked = 0
        self.gone = 0

    async def ask(self, seconds: float) -> None:
        began, first = time.monotonic(), self.asked
        while (now := time.monotonic()) < began + seconds:
            requests: list[NewRecord] = []
            for _ in range(first + round((now - began) * self._rate) - self.asked):
                namespace, name = f"team-{self.asked % 50}", f"w{self.asked}"
                requests.append(_request(_CREATION, namespace, name))
                self._living.append((now, namespace, name))
                self.asked += 1
            while self._living and self._living[0][0] < now - self._alive_s:
                requests.append(self._deletion())
            await send_together(self._publisher, requests, self._partitions)
            await asyncio.sleep(_TICK_S)

    async def end(self) -> None:
        """Deletes what is left."""
        await send_together(self._publisher, [self._deletion() for _ in range(len(self._living))], self._partitions)

    def _deletion(self) -> NewRecord:
        _, namespace, name = self._living.popleft()
        self.gone += 1
        return _request(_DELETION, namespace, name)


def _request(encoded: bytes, namespace: str, name: str) -> NewRecord:
    key = f"{namespace}/{name}"
    value = encoded.replace(_NAMESPACE, namespace.encode()).replace(_NAME, name.encode())
    return NewRecord(REQUESTS.name, key.encode(), value, _headers(REQUESTED, key, now_ms()))


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
        requests = len(await log.partitions(REQUESTS.name))
        people = People(publisher, requests, arguments.rate, arguments.alive)
        pids = {"scheduler": scheduler.pid, "broker": kafka.process_id.pid, "bench": os.getpid()}
        try:
            async with beside(clusters.follow(ready)):
                await ready.wait()
                await scheduler.wait_ready()
                for number in range(PARTS):
                    clusters.part = part = Part()
                    used, lacked, asked = _each(cpu_s, pids), _each(core_wait_s, pids), people.asked + people.gone
                    await people.ask(arguments.seconds / PARTS)
                    requested = people.asked + people.gone - asked
                    part.cpu_s, part.lacked_s = (
                        _since(used, _each(cpu_s, pids)),
                        _since(lacked, _each(core_wait_s, pids)),
                    )
                    part.cpu_ms = {name: seconds * 1000 / requested for name, seconds in part.cpu_s.items()}
                    part.memory_mb, part.waiting = resident_mb(scheduler.pid), people.asked - clusters.placed
                    parts.append(part)
                    console.print(f"part {number + 1}: {told(part)}", highlight=False)
                await people.end()
                await settle(clusters, people)
        finally:
            await scheduler.stop()
            await publisher.close()
            await log.close()
    return parts


def _each(figure: Callable[[int], float], pids: Mapping[str, int]) -> dict[str, float]:
    return {name: figure(pid) for name, pid in pids.items()}


def _since(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    return {name: value - before[name] for name, value in now.items()}


def told(part: Part) -> str:
    cpu = ", ".join(f"{name} {value:.3f}" for name, value in part.cpu_ms.items())
    p50, p99 = quantile(part.seconds, 0.5) * 1000, quantile(part.seconds, 0.99) * 1000
    size = part.records / max(len(part.entries), 1)
    latency = f"p50 {p50:.0f}, p99 {p99:.0f} ms; {size:.1f} an entry"
    lacked = ", ".join(f"{name} {value:.2f}" for name, value in part.lacked_s.items())
    waits = f"{part.waiting} wait; CPU ms a request: {cpu}; s without a core: {lacked}"
    return f"{latency}; {part.memory_mb:.0f} MB; {waits}"


def summary(arguments: argparse.Namespace, parts: Sequence[Part]) -> dict[str, Any]:
    compared = parts[1:]
    p99 = [round(quantile(part.seconds, 0.99) * 1000, 1) for part in compared]
    return {
        "p50_ms": round(quantile([value for part in compared for value in part.seconds], 0.5) * 1000, 1),
        "p99_ms": round(quantile([value for part in compared for value in part.seconds], 0.99) * 1000, 1),
        "p99_ms_of_parts": p99,
        "memory_mb_of_parts": [round(part.memory_mb) for part in compared],
        "cpu_ms_of_a_request": {
            name: round(sum(part.cpu_ms[name] for part in compared) / len(compared), 3) for name in compared[0].cpu_ms
        },
        "cpu_s": {name: round(sum(part.cpu_s[name] for part in compared), 1) for name in compared[0].cpu_s},
        "s_without_a_core": {
            name: round(sum(part.lacked_s[name] for part in compared), 1) for name in compared[0].lacked_s
        },
        "placements_of_an_entry": round(
            sum(part.records for part in compared) / sum(len(part.entries) for part in compared), 1
        ),
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
