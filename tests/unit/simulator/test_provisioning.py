"""Clusters that the simulator makes, resizes and removes because of what is declared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.simulator.provisioning import Provisioner
from services.simulator.simulator import Simulator
from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import CLUSTERS, OBJECTS
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.objects import ClusterObserved
from shared.model.identities import heartbeat_key
from shared.ports.event_log import NewRecord

SIMULATED = {"provider": "simulator", "nodes": [{"name": "small", "count": 2, "cpu": "4", "memory": "8Gi"}]}


class Bed:
    def __init__(self, log: MemoryLog, simulator: Simulator, directory: Path) -> None:
        self._log = log
        self.simulator = simulator
        self._directory = directory

    async def declare(self, name: str, provision: dict[str, Any] | None = None, *, withdraw: bool = False) -> None:
        body = ClusterDeclared.model_validate({"name": name, "provision": provision})
        await self._send(NewRecord(CLUSTERS.name, name.encode(), None if withdraw else body.to_json(), ()))

    async def beat(self, name: str) -> None:
        observed = ClusterObserved(cluster=name, epoch=1, observed_at=1, interval_ms=1000, ready=True)
        await self._send(NewRecord(OBJECTS.name, heartbeat_key(name).encode(), observed.to_json(), (), name.encode()))

    async def _send(self, record: NewRecord) -> None:
        publisher = await self._log.publisher("test")
        await (await publisher.send(record))

    @property
    def kubeconfigs(self) -> set[str]:
        return {path.stem for path in self._directory.glob("*.kubeconfig")}

    def nodes(self, name: str, group: str) -> int:
        return len(self.simulator.cluster(name).nodes_of(group))


@asynccontextmanager
async def bed(directory: Path) -> AsyncIterator[Bed]:
    log, stop = MemoryLog(), asyncio.Event()
    await log.ensure_topics([CLUSTERS, OBJECTS])
    async with Simulator(kubeconfig_dir=directory) as simulator:
        running = asyncio.create_task(Provisioner(log, simulator).run(stop))
        yield Bed(log, simulator, directory)
        stop.set()
        await running


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def test_it_is_made_with_the_nodes_that_are_declared_and_goes_when_it_ends(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        await it.declare("west", SIMULATED)
        await until(lambda: it.kubeconfigs == {"west"}, "it is made")
        assert it.nodes("west", "small") == 2
        await it.declare("west", SIMULATED | {"ending": True})
        await until(lambda: it.kubeconfigs == set(), "it is removed")
        assert it.simulator.names == ()
        await it.declare("west", withdraw=True)


async def test_a_change_of_its_nodes_is_followed_once(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        await it.declare("west", SIMULATED)
        await until(lambda: it.kubeconfigs == {"west"}, "it is made")
        kinds = [{"name": "small", "count": 1}, {"name": "large", "count": 3, "cpu": "16"}]
        await it.declare("west", {"provider": "simulator", "nodes": kinds})
        await until(lambda: (it.nodes("west", "small"), it.nodes("west", "large")) == (1, 3), "nodes as declared")
        # A node that fails is not replaced: nobody declared anything.
        it.simulator.cluster("west").remove_node("west-large-0")
        await it.declare("other", SIMULATED)
        await until(lambda: "other" in it.kubeconfigs, "another look was taken")
        assert it.nodes("west", "large") == 2
        await it.declare("west", {"provider": "simulator", "nodes": kinds[1:]})
        await until(lambda: (it.nodes("west", "small"), it.nodes("west", "large")) == (0, 3), "a kind is gone")


async def test_what_another_provider_makes_is_left_to_it(tmp_path: Path) -> None:
    async with bed(tmp_path) as it:
        await it.declare("aurora", {"provider": "clusterApi"})
        await it.beat("joined")
        await it.declare("joined")
        await it.declare("anything")
        await until(lambda: it.kubeconfigs == {"anything"}, "what nobody has joined is made")


async def test_what_it_is_asked_for_by_name_is_made_although_it_was_heard_before(tmp_path: Path) -> None:
    """The simulator began anew: agents of the former life were heard."""
    async with bed(tmp_path) as it:
        await it.beat("west")
        await it.declare("west", SIMULATED)
        await until(lambda: it.kubeconfigs == {"west"}, "it is made")
