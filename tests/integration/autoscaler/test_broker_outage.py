"""The autoscaler while its broker is away: it says so, ends when it is told to, and begins anew when it is back."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import ALL_TOPICS, PLACEMENTS, SCALING
from shared.events.v1.placements import PlacementPublished
from shared.ports.event_log import NewRecord, Reader
from shared.runtime.embedded import EmbeddedKafka
from shared.runtime.embedded.network import free_ports
from tests.autoscaling import ServiceProcess, follow, pod_json, pod_record, scaled_workload
from tests.integration.autoscaler.test_service import send, wait_for
from tests.unit.autoscaler.test_workloads import KEY, placed

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]
PODS = 4
TIMEOUT_S = 5.0
# The service has so long to end; what hangs beyond it would be killed.
GRACE_S = 20.0


class Autoscaler(ServiceProcess):
    def __init__(self, directory: Path, bootstrap: str) -> None:
        (port,) = free_ports(1)
        settings = {"FLOTILLA_HTTP_PORT": str(port), "FLOTILLA_KAFKA_TIMEOUT_S": str(TIMEOUT_S)}
        super().__init__("autoscaler", directory, bootstrap, "run", **settings)
        self._url = f"http://127.0.0.1:{port}"

    async def says(self, code: int, within_s: float = 60.0) -> str:
        """What /readyz says when it has this code, at last."""
        deadline = time.monotonic() + within_s
        seen = (0, "")
        while time.monotonic() < deadline:
            seen = await self._get()
            if seen[0] == code:
                return seen[1]
            await asyncio.sleep(0.1)
        raise AssertionError(f"/readyz is {seen} after {within_s:.0f} s")

    async def _get(self) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self._url}/readyz") as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, repr(error)


async def connect(broker: EmbeddedKafka) -> KafkaLog:
    log = await KafkaLog.connect(KafkaOptions(bootstrap=broker.bootstrap), "test")
    await log.ensure_topics(ALL_TOPICS)
    return log


async def scales(log: KafkaLog, milli: int, replicas: int) -> int:
    """Samples come until so many replicas are wanted; how many were asked for before."""
    scaling: Reader = await follow(log, SCALING.name)
    publisher = await log.publisher("test")
    try:
        said = await wait_for(publisher, scaling, milli, replicas)
        return int(said["podSets"][0]["before"])
    finally:
        await publisher.close()
        await scaling.close()


async def test_it_says_so_and_begins_anew_when_the_broker_is_back(broker: EmbeddedKafka, tmp_path: Path) -> None:
    log = await connect(broker)
    publisher = await log.publisher("test")
    placement = PlacementPublished(epoch=1, generation=1, decided_at=1, placement=placed(scaled_workload()))
    await send(publisher, NewRecord(PLACEMENTS.name, KEY.encode(), placement.to_json()))
    await send(publisher, *(pod_record(f"web-{number}", pod_json("web")) for number in range(PODS)))
    await publisher.close()
    autoscaler = Autoscaler(tmp_path, broker.bootstrap)
    await autoscaler.start()
    try:
        await autoscaler.says(200)
        assert await scales(log, 75, 6) == 2
        for round_, (milli, replicas, before) in enumerate(((25, 2, 6), (75, 6, 2))):
            await log.close()
            broker.kill()
            assert "log" in await autoscaler.says(503), round_
            await broker.start()
            log = await connect(broker)
            await autoscaler.says(200)
            # It remembers what it asked for: what was decided is 2 all the time.
            assert await scales(log, milli, replicas) == before
        await log.close()
        broker.kill()
        assert "log" in await autoscaler.says(503)
        assert await ends(autoscaler) < GRACE_S
    finally:
        await autoscaler.close()


async def test_it_ends_in_time_when_the_broker_goes_and_it_has_not_noticed(
    broker: EmbeddedKafka, tmp_path: Path
) -> None:
    log = await connect(broker)
    await log.close()
    autoscaler = Autoscaler(tmp_path, broker.bootstrap)
    await autoscaler.start()
    try:
        await autoscaler.says(200)
        broker.kill()
        assert await ends(autoscaler) < GRACE_S
    finally:
        await autoscaler.close()


async def ends(autoscaler: Autoscaler) -> float:
    """Seconds; the exit code is that of a service which was asked to end and did."""
    began = time.monotonic()
    assert await autoscaler.end(signal.SIGTERM) == 0
    return time.monotonic() - began
