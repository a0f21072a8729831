"""Two watchers of one cluster at once: the newer publishes, the older waits until it is silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec
from services.watcher.bootstrap import TOPICS, assemble
from services.watcher.settings import WatcherSettings, parse_resources
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.memory.event_log import MemoryLog
from shared.model.identities import Resource
from shared.ports.event_log import EventLog, Record
from tests.integration.watcher.support import connected, converged, of_cluster, read_all

CONFIG_MAPS = Resource("", "v1", "configmaps")
WATCHED = "v1/nodes,v1/configmaps,v1/namespaces"


class Running:
    """A watcher of every kubeconfig in a directory, in this process."""

    def __init__(self, log: EventLog, directory: Path) -> None:
        # After three heartbeats that did not come a watcher is silent: a broker that is busy may take a second for one.
        settings = WatcherSettings(
            watcher_kubeconfig_dir=directory, watcher_resources=WATCHED, watcher_heartbeat_s=1.0, watcher_scan_s=0.1
        )
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(assemble(settings, log).run(self._stop))

    async def stop(self) -> None:
        self._stop.set()
        async with asyncio.timeout(30):
            await self._task

    async def crash(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def epochs(records: Iterable[Record]) -> list[int]:
    return [int((record.header("fleet_epoch") or b"0").decode()) for record in records]


async def until(log: EventLog, condition: Callable[[list[int]], bool], within: float = 60) -> list[int]:
    deadline = time.monotonic() + within
    while not condition(found := epochs(of_cluster(await read_all(log), "east"))):
        assert time.monotonic() < deadline, sorted(set(found))
        await asyncio.sleep(0.1)
    return found


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def bootstrap(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("kafka_bootstrap")) if request.param == "kafka" else ""


async def test_the_newer_publishes_and_the_older_takes_over_when_it_is_silent(bootstrap: str, tmp_path: Path) -> None:
    if not bootstrap:
        log = MemoryLog()
        await log.ensure_topics(TOPICS)
        await play(log, tmp_path)
        return
    async with connected(bootstrap) as real:
        await real.ensure_topics(TOPICS)
        await play(real, tmp_path)


async def play(log: EventLog, directory: Path) -> None:
    async with Simulator(kubeconfig_dir=directory) as simulator:
        await simulator.add_cluster(ClusterSpec(name="east"))
        api = await KubernetesApi.from_kubeconfig(directory / "east.kubeconfig")
        before = max(epochs(of_cluster(await read_all(log), "east")), default=0)
        older = Running(log, directory)
        (first,) = set(await until(log, lambda found: any(epoch > before for epoch in found))) - set(range(before + 1))
        newer = Running(log, directory)
        second = max(await until(log, lambda found: max(found) > first))
        for number in range(10):
            await api.create(CONFIG_MAPS, "default", {"metadata": {"name": f"c{number}"}})
            await asyncio.sleep(0.1)
        await converged(log, api, "east", parse_resources(WATCHED))
        found = epochs(of_cluster(await read_all(log), "east"))
        # From the first record of the newer on, none is of the older; and the older did not fight back.
        assert found == sorted(found)
        assert max(found) == second

        await api.delete(CONFIG_MAPS, "default", "c0")
        await newer.crash()
        await api.delete(CONFIG_MAPS, "default", "c1")
        third = max(await until(log, lambda found: max(found) > second))
        assert third > second
        records = await converged(log, api, "east", parse_resources(WATCHED))
        assert epochs(records) == sorted(epochs(records))
        await older.stop()
        await api.close()
