"""A broker that is killed and returns: the log ends with what exists, and no record is missing or doubled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec
from services.watcher.settings import parse_resources
from shared.adapters.kubernetes import KubernetesApi
from shared.model.identities import Resource
from shared.ports.event_log import Record
from shared.runtime.embedded import EmbeddedKafka
from tests.integration.watcher.support import WatcherProcess, connected, converged

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
CONFIG_MAPS = Resource("", "v1", "configmaps")
WATCHED = "v1/nodes,v1/configmaps,v1/namespaces"


async def test_a_broker_that_is_killed_and_returns(kafka_bootstrap: str, tmp_path: Path) -> None:
    assert kafka_bootstrap  # the parts are there; this test's broker is its own
    directory = tmp_path / "clusters"
    environment = {
        "FLOTILLA_KAFKA_TIMEOUT_S": "2",
        "FLOTILLA_WATCHER_KUBECONFIG_DIR": str(directory),
        "FLOTILLA_WATCHER_RESOURCES": WATCHED,
        "FLOTILLA_WATCHER_HEARTBEAT_S": "0.5",
    }
    async with EmbeddedKafka(tmp_path / "kafka") as kafka, Simulator(kubeconfig_dir=directory) as simulator:
        await simulator.add_cluster(ClusterSpec(name="east"))
        api = await KubernetesApi.from_kubeconfig(directory / "east.kubeconfig")
        process = WatcherProcess(tmp_path, {**environment, "FLOTILLA_KAFKA_BOOTSTRAP": kafka.bootstrap})
        async with process:
            await api.create(CONFIG_MAPS, "default", {"metadata": {"name": "before"}})
            async with connected(kafka.bootstrap) as log:
                await converged(log, api, "east", parse_resources(WATCHED))
            kafka.kill()
            await api.delete(CONFIG_MAPS, "default", "before")
            await api.create(CONFIG_MAPS, "default", {"metadata": {"name": "meanwhile"}})
            await asyncio.sleep(6)
            await kafka.start()
            await api.create(CONFIG_MAPS, "default", {"metadata": {"name": "after"}})
            async with connected(kafka.bootstrap) as log:
                records = await converged(log, api, "east", parse_resources(WATCHED), within=90)
            assert await process.terminate() == 0
        await api.close()

    # Whether the client's retries outlived the outage or the session started again: no record is missing or doubled.
    numbers = [(header(record, "fleet_epoch"), header(record, "fleet_seq")) for record in records]
    assert numbers == sorted(numbers)
    for epoch in {epoch for epoch, _ in numbers}:
        sequence = [seq for of, seq in numbers if of == epoch]
        assert sequence == list(range(len(sequence)))


def header(record: Record, name: str) -> int:
    return int((record.header(name) or b"").decode())
