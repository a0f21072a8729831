"""What a cluster has, what the log says and what was asked come apart, and are brought together again.

Watcher, executor, scheduler and status service on real Kafka and a simulated cluster, in one process so that a watch
can keep an event to itself, which no API server does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from services.cli.fleet.requesting import request_record
from services.executor.settings import ExecutorSettings
from services.executor.shell import ExecutorService
from services.scheduler import bootstrap as scheduler
from services.scheduler.decision.seen import inventory
from services.scheduler.settings import SchedulerSettings
from services.simulator.http.api import WatchSettings
from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup, Timing
from services.status.decision import consistency
from services.status.settings import StatusSettings
from services.status.shell import StatusService
from services.watcher import bootstrap as watcher
from services.watcher.settings import WatcherSettings
from shared.adapters.clock import SystemClock
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.memory.key_value import MemoryKeyValue
from shared.adapters.node_groups import Providers
from shared.events.registry import decode
from shared.events.topics import ALL_TOPICS, DISCREPANCIES, INVENTORIES, OBJECTS, STATUS, commands_topic
from shared.events.v1.inventories import InventoryReported
from shared.events.v1.read_model import CLUSTERS_TABLE, ClusterView
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Condition, Phase, WorkloadStatus
from shared.model.identities import Resource
from shared.ports.cluster_api import EVERYTHING, Change, ChangeType, ClusterApi, Selection
from shared.ports.event_log import NewRecord
from shared.runtime.clusters import Connect, OneCluster
from shared.runtime.embedded import EmbeddedKafka
from tests.integration.watcher.support import converged, final_values, last_heartbeat, of_cluster, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CLUSTER = "east"
PODS = Resource("", "v1", "pods")
NODES = Resource("", "v1", "nodes")
CONFIG_MAPS = Resource("", "v1", "configmaps")
WITHIN_S = 120.0


class Runs(Protocol):
    async def run(self, stop: asyncio.Event) -> None: ...


class SecretiveApi(KubernetesApi):
    """Its watches tell nothing of the objects that are `hidden`; its lists do."""

    hidden: set[str]

    async def list_watch_batches(
        self, resource: Resource, selection: Selection = EVERYTHING
    ) -> AsyncGenerator[Sequence[Change], None]:
        async with aclosing(super().list_watch_batches(resource, selection)) as batches:
            async for changes in batches:
                told = {ChangeType.ADDED, ChangeType.MODIFIED, ChangeType.DELETED}
                yield [change for change in changes if not (change.type in told and change.name in self.hidden)]


@dataclass
class SecretiveSource:
    kubeconfig: Path
    hidden: set[str] = field(default_factory=set)

    async def scan(self) -> Mapping[str, Connect]:
        return {CLUSTER: self._connect}

    async def _connect(self) -> ClusterApi:
        api = await SecretiveApi.from_kubeconfig(self.kubeconfig, policy=watcher.POLICY)
        assert isinstance(api, SecretiveApi)
        api.hidden = self.hidden
        return api


@dataclass
class Fleet:
    log: KafkaLog
    api: KubernetesApi
    kubeconfig: Path
    source: SecretiveSource
    store: MemoryKeyValue
    stack: AsyncExitStack

    async def start(self, service: Runs) -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(service.run(stop))

        async def end() -> None:
            stop.set()
            async with asyncio.timeout(30):
                await task

        self.stack.push_async_callback(end)

    async def watch(self) -> None:
        """The watcher, which audits every two seconds, and the status service."""
        settings = WatcherSettings(
            watcher_cluster=CLUSTER,
            watcher_kubeconfig=self.kubeconfig,
            watcher_resources="v1/nodes,v1/pods,v1/configmaps,apps/v1/deployments",
            watcher_heartbeat_s=0.5,
            watcher_metrics_s=0,
            watcher_audit_s=2.0,
            http_port=-1,
        )
        await self.start(watcher.assemble(settings, self.log, source=self.source))
        tuned = StatusSettings(status_tick_s=0.2, status_read_model_check_s=0.2, status_doubt_s=3.0, http_port=-1)
        await self.start(StatusService(self.log, self.store, SystemClock(), tuned))

    async def obey(self) -> None:
        """Scheduler and executor."""
        settings = SchedulerSettings(scheduler_id="one", scheduler_renew_s=0.2, scheduler_lease_s=0.5, http_port=-1)
        await self.start(scheduler.assemble(settings, self.log, SystemClock()))
        quick = ExecutorSettings(executor_cluster=CLUSTER, executor_inventory_s=1.0, http_port=-1)
        source, providers = OneCluster(CLUSTER, self.kubeconfig), Providers(SystemClock())
        await self.start(ExecutorService(self.log, source, providers, SystemClock(), quick))

    async def send(self, *records: NewRecord) -> None:
        publisher = await self.log.publisher("vandal")
        try:
            for record in records:
                await publisher.send(record)
            await publisher.flush()
        finally:
            await publisher.close()

    async def create(self, name: str) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}
        await self.api.create(CONFIG_MAPS, "default", body)

    async def logged(self) -> dict[str, bytes]:
        return final_values(of_cluster(await read_all(self.log), CLUSTER))

    def condition(self, kind: str) -> Condition | None:
        value = self.store.tables[CLUSTERS_TABLE].get(CLUSTER)
        if value is None:
            return None
        conditions = ClusterView.model_validate_json(value).conditions
        return next((item for item in conditions if item.type == kind), None)

    async def until_condition(self, kind: str, status: str, *reasons: str) -> Condition:
        async def holds() -> bool:
            found = self.condition(kind)
            return found is not None and found.status == status and (not reasons or found.reason in reasons)

        await until(holds, f"{kind}={status} {reasons}", lambda: self.condition(kind))
        found = self.condition(kind)
        assert found is not None
        return found

    async def until_audited(self, what: str, number: int) -> None:
        """Until some heartbeat says that an audit found so many differences."""

        async def said() -> bool:
            records = of_cluster(await read_all(self.log), CLUSTER)
            beats = [last_heartbeat([record], CLUSTER) for record in records]
            return number in {getattr(beat.audited, what) for beat in beats if beat is not None and beat.audited}

        await until(said, f"{what} {number}")


def config_map_key(name: str) -> str:
    return f"{CLUSTER}/core/v1/configmaps/default/{name}"


async def until(condition: Callable[[], Awaitable[bool]], what: str, state: Callable[[], Any] = lambda: "") -> None:
    deadline = time.monotonic() + WITHIN_S
    while not await condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s: {what}; {state()}"
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture
async def fleet(kafka_bootstrap: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """On a broker of its own: what is written by hand here is nothing for other tests."""
    assert kafka_bootstrap
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(EmbeddedKafka(tmp_path / "kafka"))
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "test")
        stack.push_async_callback(log.close)
        await log.ensure_topics([*ALL_TOPICS, commands_topic(CLUSTER)])
        simulator = await stack.enter_async_context(
            Simulator(kubeconfig_dir=tmp_path, watch=WatchSettings(bookmark_seconds=0.5))
        )
        timing = Timing(pod_start=0.1, pod_start_jitter=0.05, pod_stop=0.1)
        await simulator.add_cluster(ClusterSpec(name=CLUSTER, node_groups=(NodeGroup(count=2),), timing=timing))
        kubeconfig = tmp_path / f"{CLUSTER}.kubeconfig"
        api = await KubernetesApi.from_kubeconfig(kubeconfig)
        stack.push_async_callback(api.close)
        yield Fleet(log, api, kubeconfig, SecretiveSource(kubeconfig), MemoryKeyValue(), stack)


async def test_what_a_watch_keeps_to_itself_is_found_and_published(fleet: Fleet) -> None:
    for name in ("deleted", "kept", "changed"):
        await fleet.create(name)
    await fleet.watch()
    resources = (NODES, PODS, CONFIG_MAPS)
    await converged(fleet.log, fleet.api, CLUSTER, resources)
    await fleet.until_condition("ObjectsConsistent", "True", "Compared")

    fleet.source.hidden |= {"deleted", "changed", "added"}
    await fleet.api.delete(CONFIG_MAPS, "default", "deleted")
    await fleet.api.merge_patch(CONFIG_MAPS, "default", "changed", {"data": {"a": "c"}})
    await fleet.create("added")

    records = await converged(fleet.log, fleet.api, CLUSTER, resources, within=WITHIN_S)
    values = final_values(records)
    assert config_map_key("deleted") not in values
    assert b'"a":"c"' in values[config_map_key("changed")].replace(b" ", b"")
    assert config_map_key("added") in values
    epochs = {record.header("fleet_epoch") for record in records}
    assert len(epochs) == 1, "nothing was begun anew for it"

    await fleet.until_audited("unlike_cluster", 3)
    await fleet.until_condition("ObjectsConsistent", "True", "Compared")
    assert not await read_all(fleet.log, DISCREPANCIES.name), "the log was right all the time"


async def test_what_others_write_into_the_log_is_found_and_published_again(fleet: Fleet) -> None:
    await fleet.create("kept")
    await fleet.create("overwritten")
    await fleet.watch()
    resources = (NODES, PODS, CONFIG_MAPS)
    await converged(fleet.log, fleet.api, CLUSTER, resources)
    await fleet.until_condition("ObjectsConsistent", "True", "Compared")
    node = next(key for key in await fleet.logged() if "/nodes/" in key)
    partition_key = CLUSTER.encode()

    await fleet.send(
        NewRecord(OBJECTS.name, config_map_key("overwritten").encode(), b"garbage", partition_key=partition_key),
        NewRecord(OBJECTS.name, config_map_key("ghost").encode(), b'{"metadata":{}}', partition_key=partition_key),
        NewRecord(OBJECTS.name, node.encode(), None, partition_key=partition_key),
    )

    async def cleaned() -> bool:
        values = await fleet.logged()
        return config_map_key("ghost") not in values and values[config_map_key("overwritten")] != b"garbage"

    await until(cleaned, "what was written by hand is gone")
    await converged(fleet.log, fleet.api, CLUSTER, resources, within=WITHIN_S)
    doubted = {(record.key or b"").decode() for record in await read_all(fleet.log, DISCREPANCIES.name)}
    assert doubted == {f"{CLUSTER}/v1/configmaps", f"{CLUSTER}/v1/nodes"}
    await fleet.until_audited("unlike_log", 1)  # the node
    await fleet.until_audited("unlike_log", 2)  # the config maps
    await fleet.until_condition("ObjectsConsistent", "True", "Compared")
    epochs = {record.header("fleet_epoch") for record in of_cluster(await read_all(fleet.log), CLUSTER)}
    assert len(epochs - {None}) == 1, "nothing was begun anew for it"


async def test_a_command_that_is_gone_is_found_and_published_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "GRACE_MS", 0)
    monkeypatch.setattr(consistency, "GRACE_MS", 0)
    await fleet.watch()
    await fleet.obey()
    pod_set = {"name": "main", "replicas": 2, "image": "nginx"}
    request = WorkloadRequested.model_validate(
        {"operation": "apply", "workload": {"namespace": "shop", "name": "cart", "podSets": [pod_set]}}
    )
    await fleet.send(request_record(request, source="test")[0])

    async def statuses() -> list[WorkloadStatus]:
        records = await read_all(fleet.log, STATUS.name)
        return [decode(WorkloadStatus, record.value) for record in records if record.key == b"shop/cart"]

    async def runs() -> bool:
        return any(status.phase is Phase.RUNNING for status in (await statuses())[-1:])

    await until(runs, "shop/cart runs")
    await fleet.until_condition("CommandsConsistent", "True")

    await fleet.send(NewRecord(commands_topic(CLUSTER).name, b"workload/shop/cart", None))

    async def forgotten() -> bool:
        inventories = [decode(InventoryReported, r.value) for r in await read_all(fleet.log, INVENTORIES.name)]
        return any(item.objects and not item.commanded for one in inventories for item in one.subjects)

    async def told() -> bool:
        found = [item for status in await statuses() for item in status.conditions if item.type == "Drifted"]
        return any(item.reason == "CommandMissing" and CLUSTER in item.message for item in found)

    async def mended() -> bool:
        latest = (await statuses())[-1]
        return latest.phase is Phase.RUNNING and not any(item.type == "Drifted" for item in latest.conditions)

    await until(forgotten, "the executor says that objects are left over")
    await until(told, "the workload says that its command is missing")
    await until(mended, "the command is there again", lambda: fleet.condition("CommandsConsistent"))
    await fleet.until_condition("CommandsConsistent", "True")
    assert len(await fleet.api.list(PODS, Selection(namespace="shop"))) == 2, "nothing was deleted for it"
