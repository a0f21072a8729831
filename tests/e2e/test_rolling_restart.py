"""Every service upgraded in turn under a stream of requests, and rolled back: nothing lost, nothing twice.

The first round asks each to drain (SIGTERM) and starts its next version, while the others still are of this one, the
other scheduler among them. The second asks twice, so that it ends at once, and starts this version again.
"""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict

import pytest

from services.cli.fleet import ServiceProcess
from shared.events.topics import DECISIONS, EVENTS, METRICS, RESULTS, commands_topic
from shared.events.v1.status import Phase
from shared.ports.event_log import START
from tests.e2e.harness import Fleet, Json, workload
from tests.e2e.next_version import ADDED
from tests.e2e.test_crashes import is_running, pods_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka, pytest.mark.timeout(600)]

NAMESPACE = "rolling"
EVERY_S = 0.5
NEXT = ("tests.e2e.next_version",)
# Where each service's next version leaves its mark, commands apart.
WRITTEN = (DECISIONS.name, EVENTS.name, RESULTS.name, METRICS.name)
SERVICES = ("scheduler", "scheduler-2", "status", "watcher", "executor", "hub")
GONE_S = 60.0


def asked(number: int) -> Json:
    return workload(
        f"r{number:03d}",
        namespace=NAMESPACE,
        replicas=1 + number % 2,
        resources={"requests": {"cpu": "20m", "memory": "16Mi"}},
        placement={"binding": "node" if number % 3 == 0 else "cluster"},
    )


async def publish(fleet: Fleet, done: asyncio.Event) -> dict[str, int]:
    """A stream of workloads until `done`; the replicas asked for, by key."""
    wanted: dict[str, int] = {}
    while not done.is_set():
        body = asked(len(wanted))
        wanted[await fleet.apply(body)] = body["podSets"][0]["replicas"]
        await asyncio.sleep(EVERY_S)
    return wanted


async def gone(service: ServiceProcess) -> None:
    async with asyncio.timeout(GONE_S):
        while service.running:  # noqa: ASYNC110 - a process that ends tells nobody
            await asyncio.sleep(0.05)


async def restart_in_turn(fleet: Fleet, done: asyncio.Event) -> None:
    try:
        for asks, version in ((1, NEXT), (2, ())):
            for name in SERVICES:
                service = fleet.local.services[name]
                for _ in range(asks):
                    service.signal(signal.SIGTERM)
                    await asyncio.sleep(0.02)
                await gone(service)
                service.program = ("-m", *version, service.program[-1])
                service.start()
                await service.wait_ready()
    finally:
        done.set()


async def written_by_the_next_version(fleet: Fleet) -> set[str]:
    """The topics in which something bears its mark."""
    marked: set[str] = set()
    reader = await fleet.log.reader("rolling")
    try:
        commands = [commands_topic(cluster).name for cluster in fleet.clusters]
        partitions = [p for name in (*WRITTEN, *commands) for p in await fleet.log.partitions(name)]
        await reader.assign(dict.fromkeys(partitions, START))
        ends = await reader.end_offsets(reader.positions())
        while any(position < ends[partition] for partition, position in reader.positions().items()):
            for record in await reader.read(timeout_s=0.5):
                if record.value is not None and ADDED.encode() in record.value:
                    marked.add("commands" if record.topic in commands else record.topic)
    finally:
        await reader.close()
    return marked


async def test_a_rolling_upgrade_and_the_way_back_under_load(fleet: Fleet) -> None:
    done = asyncio.Event()
    wanted, _ = await asyncio.gather(publish(fleet, done), restart_in_turn(fleet, done))
    assert await written_by_the_next_version(fleet) >= {*WRITTEN, "commands"}
    for key, replicas in wanted.items():
        await fleet.until(key, is_running(replicas), within=120)
    pods: dict[str, int] = defaultdict(int)
    for cluster in fleet.clusters:
        for pod in await pods_of(fleet, cluster):
            if pod["metadata"]["namespace"] == NAMESPACE:
                pods[f"{NAMESPACE}/{pod['metadata']['labels']['flotilla.dev/workload']}"] += 1
    assert pods == wanted
    for key in wanted:
        history = fleet.history[key]
        assert [change.step for change in history] == list(range(1, len(history) + 1)), key
        assert [change.phase for change in history].count(Phase.ACCEPTED) == 1, key
