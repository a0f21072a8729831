"""Every service by TLS and a password to the broker, and by TLS, a certificate and a password to Redis."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis

from services.cli.demo.command import CLUSTERS
from services.cli.fleet import FleetOptions, LocalFleet
from services.cli.fleet.clusters import SimulatedClusters
from services.cli.fleet.local import SERVICES
from shared.events.v1.status import Phase
from shared.runtime.embedded import EmbeddedValkey
from tests.e2e.harness import followed, workload
from tests.fixtures.secure import PASSWORD, USER, SecureBroker, TlsFront, secure_broker, tls_front

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(600)]


def environment(broker: SecureBroker, front: TlsFront) -> dict[str, str]:
    return {
        "FLOTILLA_KAFKA_SECURITY": "SASL_SSL",
        "FLOTILLA_KAFKA_CA": str(broker.authority),
        "FLOTILLA_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "FLOTILLA_KAFKA_USERNAME": USER,
        "FLOTILLA_KAFKA_PASSWORD": PASSWORD,
        "FLOTILLA_REDIS_CA": str(front.authority),
        "FLOTILLA_REDIS_CERTIFICATE": str(front.client.certificate),
        "FLOTILLA_REDIS_KEY": str(front.client.key),
        "FLOTILLA_REDIS_PASSWORD": PASSWORD,
    }


async def test_a_fleet_over_tls_runs_what_is_asked(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> None:
    assert kafka_bootstrap
    assert redis_url
    async with secure_broker(tmp_path) as broker, EmbeddedValkey(tmp_path / "valkey") as valkey:
        async with Redis.from_url(valkey.url) as client:
            await client.config_set("requirepass", PASSWORD)
        async with tls_front(tmp_path, valkey.config.port) as front:
            options = FleetOptions(
                tmp_path / "fleet",
                SimulatedClusters(tmp_path / "clusters", CLUSTERS),
                services=(*SERVICES, "autoscaler"),
                environment=environment(broker, front),
                kafka=broker.sasl,
                redis=front.url,
            )
            async with LocalFleet(options) as local:
                await place_one(local, tmp_path)


async def place_one(local: LocalFleet, directory: Path) -> None:
    async with followed(local, directory) as fleet:
        key = await fleet.apply(workload("guarded"))
        await fleet.until_phase(key, Phase.RUNNING)

        async def in_redis() -> bool:
            async with (
                aiohttp.ClientSession(local.services["hub"].url, timeout=aiohttp.ClientTimeout(total=30)) as session,
                session.get(f"/workload/{key}") as response,
            ):
                return response.status == 200 and (await response.json())["phase"] == Phase.RUNNING.value

        await fleet.until_true(in_redis, "the hub reads its status from Redis")
