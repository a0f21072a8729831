"""The service over simulated clusters and a log in memory: many clusters, each with its own troubles."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.simulator.faults import FaultSpec
from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup
from services.watcher.bootstrap import TOPICS, assemble
from services.watcher.settings import WatcherSettings, parse_resources
from services.watcher.shell import WatcherService
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.memory.event_log import MemoryLog, MemoryPublisher
from shared.events.topics import CLUSTERS, OBJECTS
from shared.events.v1.objects import ClusterObserved
from shared.model.identities import ObjectKey, Resource
from shared.ports.event_log import LogError, NewRecord, Record
from tests.integration.watcher.support import converged, final_objects, final_values, last_heartbeat, of_cluster
from tests.testbed.secret_volume import SecretVolume

CONFIG_MAPS = Resource("", "v1", "configmaps")
WATCHED = "v1/nodes,v1/pods,v1/configmaps,v1/namespaces,apps/v1/deployments"
RESOURCES = parse_resources(WATCHED)


@pytest.fixture
async def log() -> MemoryLog:
    log = MemoryLog()
    await log.ensure_topics(TOPICS)
    return log


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator(kubeconfig_dir=tmp_path) as running:
        yield running


def settings(directory: Path, **more: Any) -> WatcherSettings:
    values: dict[str, Any] = {
        "watcher_kubeconfig_dir": directory,
        "watcher_resources": WATCHED,
        "watcher_heartbeat_s": 0.3,
        "watcher_scan_s": 0.1,
        "watcher_metrics_s": 0.5,
        **more,
    }
    return WatcherSettings(**values)


@asynccontextmanager
async def watching(log: MemoryLog, directory: Path, **more: Any) -> AsyncIterator[WatcherService]:
    service = assemble(settings(directory, **more), log)
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    try:
        yield service
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await task


@asynccontextmanager
async def truth(directory: Path, cluster: str) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.from_kubeconfig(directory / f"{cluster}.kubeconfig")
    yield api
    await api.close()


def spec(name: str, nodes: int = 2) -> ClusterSpec:
    return ClusterSpec(name=name, node_groups=(NodeGroup(count=nodes),))


async def until(condition: Callable[[], bool], within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.05)


def records(log: MemoryLog, cluster: str) -> list[Record]:
    return of_cluster(log.records(OBJECTS.name), cluster)


def heartbeat(log: MemoryLog, cluster: str) -> ClusterObserved | None:
    return last_heartbeat(records(log, cluster), cluster)


def ready(log: MemoryLog, cluster: str) -> bool:
    beat = heartbeat(log, cluster)
    return beat is not None and beat.ready


def number(record: Record, header: str) -> int:
    return int((record.header(header) or b"").decode())


async def put(api: KubernetesApi, name: str, **data: str) -> None:
    await api.create(CONFIG_MAPS, "default", {"metadata": {"name": name}, "data": data})


def declare(log: MemoryLog, cluster: str, **fields: Any) -> None:
    body = json.dumps({"name": cluster, **fields}).encode()
    log.append(NewRecord(CLUSTERS.name, cluster.encode(), body))


async def test_clusters_come_and_go_with_their_files(log: MemoryLog, simulator: Simulator, tmp_path: Path) -> None:
    await simulator.add_cluster(spec("east"))
    async with watching(log, tmp_path) as service:
        await until(lambda: ready(log, "east"))
        await simulator.add_cluster(spec("west", nodes=3))
        await until(lambda: ready(log, "west"))
        assert service.readiness().ready
        async with truth(tmp_path, "west") as api:
            await converged(log, api, "west", RESOURCES)
        beat = heartbeat(log, "west")
        assert beat is not None
        assert (beat.nodes, beat.nodes_ready, beat.capacity["cpu"]) == (3, 3, "24")

        await simulator.remove_cluster("west")
        await until(lambda: not final_values(records(log, "west")))
        assert ready(log, "east")
    # A stop is no farewell: what was published stays.
    assert final_objects(records(log, "east"))
    assert ready(log, "east")


async def test_clusters_come_and_go_with_the_keys_of_a_secret_that_is_mounted(
    log: MemoryLog, simulator: Simulator, tmp_path: Path
) -> None:
    for name in ("east", "west"):
        await simulator.add_cluster(spec(name))
    volume = SecretVolume(tmp_path / "mounted")

    def mount(*names: str) -> None:
        volume.write({f"{name}.kubeconfig": (tmp_path / f"{name}.kubeconfig").read_bytes() for name in names})

    async with watching(log, tmp_path / "mounted"):
        mount("east")
        await until(lambda: ready(log, "east"))
        mount("east", "west")
        await until(lambda: ready(log, "west"))
        mount("west")
        await until(lambda: not final_values(records(log, "east")))
        async with truth(tmp_path, "west") as api:
            await put(api, "later", a="b")
            key = str(ObjectKey("west", CONFIG_MAPS, "default", "later"))
            await until(lambda: key in final_values(records(log, "west")))
    assert ready(log, "west")


async def test_objects_come_without_managed_fields(log: MemoryLog, simulator: Simulator, tmp_path: Path) -> None:
    await simulator.add_cluster(spec("east"))
    async with watching(log, tmp_path), truth(tmp_path, "east") as api:
        await put(api, "settings", a="b")
        assert (await api.get(CONFIG_MAPS, "default", "settings"))["metadata"]["managedFields"]
        key = str(ObjectKey("east", CONFIG_MAPS, "default", "settings"))
        await until(lambda: key in final_values(records(log, "east")))
    assert not any(b'"managedFields"' in (record.value or b"") for record in records(log, "east"))


async def test_dropped_watches_and_forgotten_history(log: MemoryLog, simulator: Simulator, tmp_path: Path) -> None:
    await simulator.add_cluster(spec("east"))
    async with watching(log, tmp_path), truth(tmp_path, "east") as api:
        await until(lambda: ready(log, "east"))
        for number in range(6):
            await put(api, f"m{number}")
            if number % 2:
                # The watches are cut, things happen, and the server forgets them: every reconnect is answered with 410.
                simulator.drop_watches("east")
                await api.delete(CONFIG_MAPS, "default", f"m{number}")
                await put(api, f"after-{number}")
                simulator.compact("east")
            await asyncio.sleep(0.1)
        found = await converged(log, api, "east", RESOURCES)
    markers = [record for record in found if record.key == b"east/-/sync/v1/configmaps"]
    phases = [json.loads(record.value or b"")["phase"] for record in markers]
    assert phases[::2] == ["started"] * (len(phases) // 2)
    assert phases[1::2] == ["finished"] * (len(phases) // 2)
    assert len(phases) >= 4


async def test_one_clusters_trouble_is_not_anothers(log: MemoryLog, simulator: Simulator, tmp_path: Path) -> None:
    for name in ("east", "west"):
        await simulator.add_cluster(spec(name))
    (tmp_path / "broken.kubeconfig").write_text("{")
    async with watching(log, tmp_path), truth(tmp_path, "east") as api:
        await until(lambda: ready(log, "east") and ready(log, "west"))
        simulator.inject("west", FaultSpec(error_rate=1.0, error_status=503))
        simulator.drop_watches("west")
        await until(lambda: not ready(log, "west"))
        await put(api, "still-here")
        await converged(log, api, "east", RESOURCES)
        broken, west = heartbeat(log, "broken"), heartbeat(log, "west")
        assert ready(log, "east")
        simulator.inject("west", None)
        await until(lambda: ready(log, "west"), within=45)
    assert west is not None
    assert broken is not None
    assert west.reason in {"ServiceUnavailable", "ApiUnreachable"}
    assert (broken.ready, broken.reason) == (False, "ApiUnreachable")
    assert "Credentials" in broken.message


async def test_declarations_bring_labels_and_resources_and_take_them_back(
    log: MemoryLog, simulator: Simulator, tmp_path: Path
) -> None:
    await simulator.add_cluster(spec("east"))
    declare(log, "east", labels={"tier": "gold"}, watchedResources=["v1/services", "nonsense"])
    log.append(NewRecord(CLUSTERS.name, b"east", b"{not json"))
    services = parse_resources("v1/services")
    async with watching(log, tmp_path), truth(tmp_path, "east") as api:
        await until(lambda: ready(log, "east"))
        await api.create(
            next(iter(services)), "default", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
        )
        await converged(log, api, "east", RESOURCES | services)
        beat = heartbeat(log, "east")
        assert beat is not None
        assert beat.labels["tier"] == "gold"
        assert beat.labels["topology.kubernetes.io/region"]

        declare(log, "east", labels={"tier": "iron"})
        await until(lambda: (beat := heartbeat(log, "east")) is not None and beat.labels["tier"] == "iron")
        await converged(log, api, "east", RESOURCES)
    (refused,) = log.records("fleet.clusters.dlq")
    assert refused.value == b"{not json"
    assert refused.header("dlq_reason") == b"Malformed"


async def test_usage_is_sampled(log: MemoryLog, simulator: Simulator, tmp_path: Path) -> None:
    await simulator.add_cluster(spec("east"))
    async with watching(log, tmp_path):
        await until(lambda: (beat := heartbeat(log, "east")) is not None and "cpu" in beat.usage)
        await until(lambda: {r.key for r in log.records("fleet.metrics")} == {b"east/nodes", b"east/pods"})
    nodes = next(record for record in log.records("fleet.metrics") if record.key == b"east/nodes")
    assert len(json.loads(nodes.value or b"")["nodes"]) == 2
    assert nodes.header("ce_type") == b"fleet.nodemetrics.sampled.v1"


class FailingLog(MemoryLog):
    """A log whose publishers break after some records, or stand still while `stalled`."""

    def __init__(self) -> None:
        super().__init__()
        self.break_after: list[int] = []
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.sent = 0

    async def publisher(self, client_id: str) -> MemoryPublisher:
        breaks = self.break_after.pop(0) if self.break_after and "dead" not in client_id else 0
        return FailingPublisher(self, breaks)


class FailingPublisher(MemoryPublisher):
    def __init__(self, log: FailingLog, breaks: int) -> None:
        super().__init__(log.append)
        self._log = log
        self._left = breaks

    async def send(self, record: NewRecord) -> Any:
        await self._log.flowing.wait()
        self._left -= 1
        if self._left == 0:
            # Only once: that nobody goes on behind the gap is the watcher's own business.
            raise LogError("the broker went away")
        self._log.sent += 1
        return await super().send(record)


async def test_a_log_that_breaks_costs_an_incarnation_and_no_object(simulator: Simulator, tmp_path: Path) -> None:
    log = FailingLog()
    await log.ensure_topics(TOPICS)
    log.break_after = [1, 7, 12]  # the first incarnation says nothing at all
    await simulator.add_cluster(spec("east"))
    async with watching(log, tmp_path), truth(tmp_path, "east") as api:
        await put(api, "a")
        await until(lambda: not log.break_after and ready(log, "east"), within=40)
        await api.delete(CONFIG_MAPS, "default", "a")
        found = await converged(log, api, "east", RESOURCES)
    epochs = [number(record, "fleet_epoch") for record in found]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) == 3
    for epoch in set(epochs):
        sequence = [number(record, "fleet_seq") for record in found if number(record, "fleet_epoch") == epoch]
        assert sequence == list(range(len(sequence)))


async def test_a_log_that_stands_still_stops_the_reading(simulator: Simulator, tmp_path: Path) -> None:
    log = FailingLog()
    await log.ensure_topics(TOPICS)
    await simulator.add_cluster(spec("east"))
    async with watching(log, tmp_path), truth(tmp_path, "east") as api:
        await until(lambda: ready(log, "east"))
        log.flowing.clear()
        sent = log.sent
        for number in range(30):
            await put(api, f"m{number}", text="x" * 200_000)
        await asyncio.sleep(0.5)
        assert log.sent == sent
        log.flowing.set()
        await converged(log, api, "east", RESOURCES)
