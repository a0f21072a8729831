"""A cluster is lost, and its replicas come up elsewhere; it returns, and what it still ran goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench.evacuation import SIMULATED, scene

pytestmark = [pytest.mark.kafka]

PODS = 40
WORKLOADS = 4
# What is tested is the way, not the patience.
HASTY = {"FLOTILLA_SCHEDULER_TOLERATE_LOSS_S": "1", "FLOTILLA_WATCHER_HEARTBEAT_S": "1"}


def test_what_a_lost_cluster_ran_runs_elsewhere(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> None:
    del kafka_bootstrap, redis_url
    asyncio.run(lose_and_return(tmp_path))


async def lose_and_return(directory: Path) -> None:
    async with scene(directory, PODS, lambda _: None, HASTY) as fleet:
        await fleet.start(WORKLOADS)
        fleet.lose()
        await fleet.until(lambda: fleet.running(WORKLOADS, SIMULATED.others), "all run elsewhere")
        parts = [
            part for status in fleet.statuses.values() for part in status.clusters if part.cluster == SIMULATED.lost
        ]
        assert all(part.stale and not part.counts.ready for part in parts)
        await fleet.bring_back()
        await fleet.until(fleet.gone, "nothing is left where they were")
        assert fleet.running(WORKLOADS, SIMULATED.others)
