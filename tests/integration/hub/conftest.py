"""One broker and one real API server for all tests of the hub; empty topics and no objects for each.

What takes `hub_objects` runs on a simulated API server and on a real one.
"""

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
from services.simulator.simulator import HUBS, Simulator
from services.simulator.spec import ClusterSpec
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.adapters.kubernetes import KubernetesApi
from shared.runtime.embedded import EmbeddedKafka
from tests.integration.hub.support import Fleet, HubCluster, reset_topics, until
from tests.testbed import RealCluster, hub_cluster

RunHub = Callable[..., AbstractAsyncContextManager[HubService]]


@pytest.fixture(scope="package")
def hub_kafka(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker of its own: the fleet's topics have fixed names. (The session's says whether there can be one.)"""
    assert kafka_bootstrap
    with asyncio.Runner() as runner:
        kafka = EmbeddedKafka(tmp_path_factory.mktemp("hub-kafka"))
        runner.run(kafka.start())
        yield kafka
        runner.run(kafka.stop())


@pytest.fixture(scope="package")
def hub_bootstrap(hub_kafka: EmbeddedKafka) -> str:
    return hub_kafka.bootstrap


@pytest.fixture(scope="package")
def real_hub_cluster(testbed_binaries: Any) -> Iterator[RealCluster]:
    assert testbed_binaries
    with asyncio.Runner() as runner:
        cluster = hub_cluster()
        runner.run(cluster.start())
        yield cluster
        runner.run(cluster.stop())


@pytest.fixture
def real_hub(real_hub_cluster: RealCluster) -> Path:
    """The kubeconfig of a real kube-apiserver."""
    return real_hub_cluster.kubeconfig


@pytest_asyncio.fixture
async def simulated_hub(tmp_path: Path) -> AsyncIterator[Path]:
    """The kubeconfig of a simulated one."""
    async with Simulator(kubeconfig_dir=tmp_path) as simulator:
        await simulator.add_cluster(ClusterSpec(name="hub", controllers=False))
        yield tmp_path / HUBS / "hub.kubeconfig"


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.testbed)])
def hub_kubeconfig(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(f"{request.param}_hub")
    return path


@pytest_asyncio.fixture
async def hub_objects(hub_kubeconfig: Path) -> AsyncIterator[HubCluster]:
    api = await KubernetesApi.from_kubeconfig(hub_kubeconfig)
    cluster = HubCluster(hub_kubeconfig, api)
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
def hub_settings(hub_bootstrap: str, hub_kubeconfig: Path) -> Callable[..., HubSettings]:
    def make(**changes: Any) -> HubSettings:
        settings: dict[str, Any] = {
            "kafka_bootstrap": hub_bootstrap,
            "hub_kubeconfig": hub_kubeconfig,
            # The lease as by default: it is released at the end, and a short one is lost where a machine stands still.
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
                await asyncio.wait_for(running, 30)

    return run


@pytest.fixture
def hub_environment(hub_bootstrap: str, hub_kubeconfig: Path) -> dict[str, str]:
    """Variables of a hub process with a short lease."""
    return {
        "FLOTILLA_KAFKA_BOOTSTRAP": hub_bootstrap,
        "FLOTILLA_HUB_KUBECONFIG": str(hub_kubeconfig),
        "FLOTILLA_HUB_LEASE_S": "3",
        "FLOTILLA_HUB_RENEW_S": "2",
        "FLOTILLA_HUB_RETRY_S": "0.3",
        "FLOTILLA_HUB_STATUS_INTERVAL_S": "0.1",
        "FLOTILLA_HUB_DELETE_GRACE_S": "2",
    }
