"""Thousands of Workloads: each is requested once and shown once, and a quiet fleet costs the hub cluster nothing.

`FLOTILLA_TEST_WORKLOADS` sets their number; the 10,000 of the design take about five minutes on two cores.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter

import pytest
from prometheus_client import REGISTRY

from services.hub.decision.resources import API_VERSION, WORKLOADS
from shared.events.v1.status import Phase
from tests.integration.hub.conftest import RunHub
from tests.integration.hub.support import WEB, Fleet, HubCluster, until

COUNT = int(os.environ.get("FLOTILLA_TEST_WORKLOADS", "500"))

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300 + COUNT // 5)]


def written(kind: str) -> float:
    labels = {"kind": kind, "outcome": "done"}
    return REGISTRY.get_sample_value("flotilla_hub_instructions_total", labels) or 0.0


async def answer(fleet: Fleet) -> None:
    """Accepts every request and says that it runs."""
    seen = 0
    while True:
        batch = fleet.requests[seen : seen + 200]
        placed = await asyncio.gather(*(fleet.place(record) for record in batch))
        await asyncio.gather(*(fleet.report(item, Phase.RUNNING, 3) for item in placed))
        seen += len(batch)
        await asyncio.sleep(0.02)


async def create(hub_objects: HubCluster, numbers: range) -> None:
    for number in numbers:
        body = {"apiVersion": API_VERSION, "kind": "Workload", "metadata": {"name": f"w{number}"}, "spec": WEB}
        await hub_objects.api.create(WORKLOADS, "default", body)


async def test_thousands_of_workloads(hub_objects: HubCluster, fleet: Fleet, run_hub: RunHub) -> None:
    async def running() -> int:
        listed = await hub_objects.api.list(WORKLOADS)
        return sum((item.get("status") or {}).get("phase") == "Running" for item in listed)

    async def all_running() -> bool:
        return await running() == COUNT

    answering = asyncio.create_task(answer(fleet))
    settings = {"hub_status_interval_s": 1.0, "hub_writes_per_s": 1000.0}
    try:
        async with run_hub(**settings):
            started = time.monotonic()
            await asyncio.gather(*(create(hub_objects, range(first, COUNT, 8)) for first in range(8)))
            created = time.monotonic() - started
            await until(all_running, "all to run", within=60 + COUNT / 10, pause=1)
            print(f"{COUNT} created in {created:.1f} s, all shown as Running after {time.monotonic() - started:.1f} s")
            requests = Counter(record.key for record in fleet.requests)
            assert len(requests) == COUNT
            assert set(requests.values()) == {1}

            before = written("WriteStatus")
            await asyncio.sleep(5)
            assert written("WriteStatus") == before, "nothing changes, so nothing is written"

        started = time.monotonic()
        async with run_hub(**settings):
            print(f"caught up after a restart within {time.monotonic() - started:.1f} s")
            await asyncio.sleep(3)
        assert len(fleet.requests) == COUNT, "a restart repeats no request that was answered"
        assert written("WriteStatus") == before, "nor any status"
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
