"""One broker and one API server for all tests of the hub; empty topics and no objects for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.hub.bootstrap import build
from services.hub.settings import HubSettings
from services.hub.shell import HubService
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.runtime.embedded import EmbeddedKafka
from tests.integration.hub.support import Fleet, HubCluster, reset_topics, until
from tests.testbed import RealCluster, hub_cluster

RunHub = Callable[..., AbstractAsyncContextManager[HubService]]


@pytest.fixture(scope="package")
def hub_bootstrap(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of its own: the fleet's topics have fixed names. (The session's says whether there can be one.)"""
    assert kafka_bootstrap
    with asyncio.Runner() as runner:
        kafka = EmbeddedKafka(tmp_path_factory.mktemp("hub-kafka"))
        runner.run(kafka.start())
        yield kafka.bootstrap
        runner.run(kafka.stop())


@pytest.fixture(scope="package")
def hub_server(testbed_binaries: Any) -> Iterator[RealCluster]:
    assert testbed_binaries
    with asyncio.Runner() as runner:
        cluster = hub_cluster()
        runner.run(cluster.start())
        yield cluster
        runner.run(cluster.stop())


@pytest_asyncio.fixture
async def hub_objects(hub_server: RealCluster) -> AsyncIterator[HubCluster]:
    api = await KubernetesApi.from_kubeconfig(hub_server.kubeconfig)
    cluster = HubCluster(hub_server.kubeconfig, api)
    await cluster.clean()
    yield cluster
    await api.close()


@pytest_asyncio.fixture
async def fleet(hub_bootstrap: str) -> AsyncIterator[Fleet]:
    await reset_topics(hub_bootstrap)
    log = await KafkaLog.connect(KafkaOptions(bootstrap=hub_bootstrap), "test")
    publisher = await log.publisher("test")
    fleet = Fleet(log, publisher)
    following = asyncio.create_task(fleet.follow_requests())
    yield fleet
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await publisher.close()
    await log.close()


@pytest.fixture
def hub_settings(hub_bootstrap: str, hub_server: RealCluster) -> Callable[..., HubSettings]:
    def make(**changes: Any) -> HubSettings:
        settings: dict[str, Any] = {
            "kafka_bootstrap": hub_bootstrap,
            "hub_kubeconfig": Path(hub_server.kubeconfig),
            "hub_lease_s": 3,
            "hub_renew_s": 2.0,
            "hub_retry_s": 0.3,
            "hub_status_interval_s": 0.1,
            "hub_answer_s": 2.0,
            "hub_delete_grace_s": 2.0,
            "hub_webhook": False,
        }
        return HubSettings(**(settings | changes))

    return make


@pytest.fixture
def run_hub(hub_settings: Callable[..., HubSettings]) -> RunHub:
    """A hub in this process, bridging when it is entered, drained when it is left."""

    @asynccontextmanager
    async def run(*, wait: bool = True, **changes: Any) -> AsyncIterator[HubService]:
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            service = await build(hub_settings(**changes), stack)
            running = asyncio.create_task(service.run(stop))
            try:
                if wait:
                    await until(lambda: running.done() or service.readiness().ready, "the hub to be ready")
                yield service
            finally:
                stop.set()
                await asyncio.wait_for(running, 15)

    return run
