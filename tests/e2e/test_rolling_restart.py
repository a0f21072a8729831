"""Every service stopped and started in turn under a stream of requests: nothing lost, nothing twice.

The first round asks each to drain (SIGTERM); the second asks twice, so that it ends at once.
"""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict

import pytest

from services.cli.fleet import ServiceProcess
from shared.events.v1.status import Phase
from tests.e2e.harness import Fleet, Json, workload
from tests.e2e.test_crashes import is_running, pods_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.kafka, pytest.mark.timeout(420)]

NAMESPACE = "rolling"
EVERY_S = 0.5
SERVICES = ("scheduler", "scheduler-2", "status", "watcher", "executor", "hub")
GONE_S = 30.0


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
        for asks in (1, 2):
            for name in SERVICES:
                service = fleet.local.services[name]
                for _ in range(asks):
                    service.signal(signal.SIGTERM)
                    await asyncio.sleep(0.02)
                await gone(service)
                service.start()
                await service.wait_ready()
    finally:
        done.set()


async def test_a_rolling_restart_under_load(fleet: Fleet) -> None:
    done = asyncio.Event()
    wanted, _ = await asyncio.gather(publish(fleet, done), restart_in_turn(fleet, done))
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
